"""An evaluation beside the truth, where a simulator knows it."""
