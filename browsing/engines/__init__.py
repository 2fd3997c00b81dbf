"""Adapters of the engine port that need no server: the embedded one, and one driven by tables."""
