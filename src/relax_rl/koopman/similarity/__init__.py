"""How alike two trajectories, or two systems, are."""
