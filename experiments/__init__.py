"""Experiments: one folder each, with configs, a table of runs and commands."""
