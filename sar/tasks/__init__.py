"""Tasks beyond classification: image-text retrieval, with CLIP as it is and with AAPE."""
