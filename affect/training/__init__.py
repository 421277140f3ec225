"""From shards to a run, its metrics and a table of runs."""
