"""Latent signals that distinguish the completions of a group, and the methods that use them (study G)."""
