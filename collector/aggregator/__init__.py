"""The collector of collectors."""
