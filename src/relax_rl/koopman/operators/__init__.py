"""From snapshot pairs to an operator matrix, and the space that it acts in."""
