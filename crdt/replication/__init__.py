"""How deltas travel, sans-I/O."""
