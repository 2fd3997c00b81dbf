"""Adapters of the engine port that speak to vLLM: to running servers, or to ones that they start themselves."""
