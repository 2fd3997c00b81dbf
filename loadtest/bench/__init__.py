"""Benchmarks against peers: the same work on the same machine, in alternation."""
