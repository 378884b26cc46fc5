"""`sarclip describe`: descriptions of classes from a language model."""
