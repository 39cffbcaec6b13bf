"""The command line: one module a verb. Each parses first and imports torch after, inside the function that needs it."""
