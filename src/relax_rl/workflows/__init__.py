"""What each command does, as a function: no argument parsing and no printing."""
