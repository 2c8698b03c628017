"""Programs that measure: each is run by itself, `python -m benchmarks.NAME`."""
