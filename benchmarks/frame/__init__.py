"""What every benchmark is written with: rows, one way to take times, a history of results, a page that draws it."""
