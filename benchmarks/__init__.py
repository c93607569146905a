"""Benchmarks, one script per claim: ``python -m benchmarks.NAME`` prints JSON with the machine and the versions."""
