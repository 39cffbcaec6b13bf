"""Providers of an objective's optional inputs."""
