"""The only place that draws: figures and one page about runs, read from their directories alone."""
