"""The text baseline: a general language model behind an OpenAI-compatible endpoint, asked in words (HeTLM, A.4.1)."""
