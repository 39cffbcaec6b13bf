"""What runs and models tell: laws of entropy, comparisons of methods, spectra of models."""
