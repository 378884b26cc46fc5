"""The field's datasets on disk: where they lie, what is in them, how to get them. Without torch."""
