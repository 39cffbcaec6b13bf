"""Eigenvalues, ranks, directions and assignments, batched and differentiable."""
