"""The commands as functions: no argument parsing and no printing."""
