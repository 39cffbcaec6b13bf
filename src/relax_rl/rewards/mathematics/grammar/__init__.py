"""The grammar of answers: a text becomes a typed value, or is no answer of that type."""
