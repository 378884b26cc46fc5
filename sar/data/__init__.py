"""Datasets on disk, the field's and one's own: what is where, how to get and read it. No torch."""
