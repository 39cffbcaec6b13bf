"""Where the optional inputs of an objective come from."""
