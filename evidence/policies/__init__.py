"""The starting policies of the studies, built here."""
