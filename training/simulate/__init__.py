"""Simulated shop logs whose every probability is known."""
