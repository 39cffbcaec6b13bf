"""Processes in which untrusted answers are graded, with limits that the kernel enforces."""
