"""Instance search on a generated benchmark: the tables of the DASR deck."""
