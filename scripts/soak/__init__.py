"""What the soak is made of: runs in forks, faults put into them, and how they end beside one that met none."""
