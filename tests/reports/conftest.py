"""Fixtures of this folder."""

from support.runs import hostile, make_evaluation, make_run  # noqa: F401
