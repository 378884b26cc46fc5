"""Tasks beyond classification, with CLIP as it is and with AAPE: retrieval, captions, questions."""
