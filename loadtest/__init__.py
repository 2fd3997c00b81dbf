"""Load on a running service: open-loop arrivals, every answer checked, latency counted from the intended start."""
