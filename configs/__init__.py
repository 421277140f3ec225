"""Experiments, one file each, exposing `CONFIG`. A row of a paper's table is a `replace` on one complete base."""
