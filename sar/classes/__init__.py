"""Class names: of the datasets, hand-crafted templates, sources of novel ones."""
