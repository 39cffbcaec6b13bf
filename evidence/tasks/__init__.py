"""The tasks of the studies that are not in the package."""
