"""One vLLM server for all clusters: their predictors' weights stacked, every row computed with its own cluster's."""
