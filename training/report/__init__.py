"""The report: one self-contained HTML page, made from a bundle, its training log and evaluation results."""
