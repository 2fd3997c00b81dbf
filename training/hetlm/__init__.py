"""Actor-critic fine-tuning of K predictors and a selector (HeTLM, sections 4.5 and 4.6)."""
