"""What shardlog costs beside others that do the same work: `make bench`.

One module a case, each of which has a `measure` that returns a `Case`; `__main__` runs them.
"""
