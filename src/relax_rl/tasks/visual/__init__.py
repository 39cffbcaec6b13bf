"""Visual benchmarks and training data by name: their published layouts as problems."""
