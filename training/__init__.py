"""From a page-view log to a bundle: simulate, ingest, train, evaluate."""
