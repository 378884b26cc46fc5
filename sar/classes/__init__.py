"""Class names: hand-crafted templates and the sources of novel class names."""
