"""Answers of visual benchmarks: gold answers with their type, our verdict on them, and the benchmarks' own rules."""
