"""ReLaX: reasoning with latent exploration, and every baseline next to it."""

__version__ = "0.1.0"
