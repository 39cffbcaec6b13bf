"""How much memory a run needs on each device, by arithmetic: nothing is loaded."""
