"""Data that the scripts of a page draw: plain tables and lists, bounded in size."""
