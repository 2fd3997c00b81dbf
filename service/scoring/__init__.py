"""Whole files of visitors, scored row by row; the command line and the batch jobs share it."""
