"""Break the code one place at a time and ask whether a test notices: the parts of scripts/mutants.py."""
