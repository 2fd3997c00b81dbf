"""Bundles in motion: which versions there are, which answers whom, and how another takes over while requests go on."""
