"""The studies of docs/research/evidence. Run its modules from the repository's root: `python -m NAME`."""
