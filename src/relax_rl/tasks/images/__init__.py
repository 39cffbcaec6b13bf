"""Images of problems: kept by reference, decoded when they are used, refused by name when they cannot be."""
