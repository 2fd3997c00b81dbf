"""Baselines: simple forecasts behind one interface, which the method has to beat (see `registry`)."""
