"""The collector of one host."""
