"""Metrics: pure functions on numpy arrays, one subject per module."""
