"""The pages and figures of a spectrum."""
