"""From the runs of a study to its tables, figures and page."""
