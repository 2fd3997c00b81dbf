"""Who may ask, how often, and for how much: everything that stands between strangers and the pipeline."""
