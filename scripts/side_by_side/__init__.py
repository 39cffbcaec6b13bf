"""Two revisions of the project on one machine, compared: the parts of `scripts/side_by_side.py`."""
