"""Novel class names from a language model behind an OpenAI-compatible endpoint."""
