"""From trajectories to snapshot pairs and their sums."""
