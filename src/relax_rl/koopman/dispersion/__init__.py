"""How far apart the eigenvalues of a trajectory lie, and controls for such a number."""
