"""The studies of docs/evidence. Run its modules from the root of the repository: `python -m evidence.tables.page`."""
