"""ELF measured with the protocols of the field."""
