"""The `shardlog` command."""
