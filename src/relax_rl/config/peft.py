"""The settings of LoRA and QLoRA, under the names of ``peft.LoraConfig``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from relax_rl.config.section import Section

__all__ = ["PeftConfig"]


class PeftConfig(Section):
    """A LoRA adapter that learns while the model stays as it is; none without ``r``.

    The reference policy of the KL is the model with the adapter switched off. Left out of ``peft.LoraConfig`` are the
    settings with which that is not the initial policy: a ``bias`` that learns, ``init_lora_weights`` that change the
    model.
    """

    r: int | None = Field(default=None, ge=1)
    """Rank of the adapter; null trains all weights."""
    lora_alpha: int = Field(default=32, ge=1)
    """The adapter's output is multiplied by lora_alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Acts in training also with trainer.disable_dropout, which is about the model's own."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter, or a regular expression; all-linear: every linear layer but the head."""
    exclude_modules: str | list[str] | None = None
    """Names of layers that get none."""
    modules_to_save: list[str] | None = None
    """Names of modules of which a copy is trained in full and kept with the adapter."""
    use_rslora: bool = False
    """Multiply by lora_alpha / sqrt(r) (arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn the length of each weight apart from its direction (arXiv 2402.09353)."""
    init_lora_weights: Literal[True, "gaussian"] = True
    """How A starts; B starts at 0."""
    load_in_4bit: bool = False
    """QLoRA: the model's own weights in 4 bits (NF4); needs bitsandbytes."""
    load_in_8bit: bool = False
    """The same in 8 bits."""

    @property
    def bits(self) -> int | None:
        """Bits of the model's own weights; None where they stay as they are."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None

    @model_validator(mode="after")
    def _only_with_a_rank(self) -> PeftConfig:
        fields = type(self).model_fields
        given = [name for name, field in fields.items() if getattr(self, name) != field.default]
        if self.r is None and given:
            raise ValueError(f"peft.{given[0]} needs an adapter; set its rank, --peft.r 16, or leave it out")
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("peft.load_in_4bit and peft.load_in_8bit cannot be both true; choose one")
        return self
