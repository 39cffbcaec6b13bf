"""The Koopman spectrum of a language model: measured, read, compared."""
