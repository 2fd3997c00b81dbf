"""A large language model of words, fine-tuned on browsing with low-rank adapters (HeTLM, A.4.4)."""
