"""`sarclip novel`: novel class names from a language model."""
