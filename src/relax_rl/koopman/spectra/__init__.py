"""From an operator to eigenpairs, and how much of them is real."""
