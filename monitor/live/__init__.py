"""Live tests: what must become true of a cluster, judged while it runs; and recordings of it."""
