"""Replicated data types: pure, they run nowhere."""
