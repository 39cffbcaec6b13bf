"""The settings of what a run measures of images."""

from __future__ import annotations

from pydantic import Field

from relax_rl.config.section import Section

__all__ = ["SightConfig"]


class SightConfig(Section):
    """Whether an image-text policy still looks while it trains: its completions, read again under other images."""

    prompts: int = Field(default=0, ge=0)
    """Prompts of each rollout batch, on each process, whose completions are read again; 0: none, at no cost."""
    completions: int = Field(default=2, ge=1)
    """Completions of each of these prompts."""
    conditions: str = "other,grey"
    """Conditions to show, with commas between: other (the image of another prompt of the batch, in the size of the own
    one), masked:SHARE and grey."""
    max_positions: int = Field(default=512, ge=1)
    """Only so many first tokens of a completion are read."""
