"""Inference time per configuration, side by side (HeTLM, Table 18)."""
