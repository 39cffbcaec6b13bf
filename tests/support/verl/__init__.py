"""verl on a CPU, for tests alone: what of it stands on CUDA, replaced. Run by the Python of `make verl-env`."""
