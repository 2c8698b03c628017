"""A whole cluster on this machine, to look at and to be measured against.

General layout:

- `command`   the `shardlog demo` command: starts, watches, compares, ends
- `cluster`   the supervisor: which processes there are, in which order they start and stop
- `process`   one supervised process; `tied` makes it die with the demo; `ports` finds addresses
- `pages`     makes the site out of the standard library's documentation; `site` serves it
- `orchestrator`, `scraper`, `spotter`   the blades: ordinary programs that log
- `blade`     what the three have in common; `server` too; `tally` what a blade counts for itself
- `breaks`    what can break in them while they run
- `client`    the blades' HTTP client; `links` the scraper's parser
- `sight`     the demo's connection to its own aggregator
- `watch`     shows it while it runs; `view` makes tables of a state, `summary` of the counts

The blades use nothing of shardlog but `ShardHandler` and `count`, so they may be read as examples.
"""
