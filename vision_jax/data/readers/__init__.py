"""Standard layouts of data sets on disk."""
