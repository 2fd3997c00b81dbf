"""Batch scoring over HTTP: jobs that survive the process."""
