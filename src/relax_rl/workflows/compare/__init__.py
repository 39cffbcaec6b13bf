"""Several methods, several seeds, one verdict."""
