"""The version, apart from the front door, which imports everything."""

__all__ = ["__version__"]

__version__ = "0.1.0"
