"""How good a bundle is: the metrics of HeTLM, section 5, on users that training never saw."""
