"""Koopman estimators for NumPy arrays, in the manner of scikit-learn, over `relax_rl.koopman`."""
