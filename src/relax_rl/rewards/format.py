"""The verifier of a completion's form: thinking in its tags, an answer where it belongs, whether right or wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from relax_rl.errors import ConfigError
from relax_rl.rewards.base import OneByOneVerifier, Verdict
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.extraction import extract_answer

__all__ = ["FormatVerifier"]

_PARTS = ("think", "answer", "boxed")
_OPEN_THINK, _CLOSE_THINK = "<think>", "</think>"
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class FormatVerifier(OneByOneVerifier):
    """Scores 1.0 if a completion has every part that is asked for, else 0.0; the gold answers are not looked at.

    ``think``: the completion begins with ``<think>``, and closes it once, around some text. ``answer``: what follows
    the thinking is one ``<answer>...</answer>`` that holds something, with nothing behind it, and prose before it only
    if no ``think`` is asked for. ``boxed``: what follows the thinking has a closed ``\\boxed{...}`` that holds
    something.

    Args:
        require: names of the parts.
        prompt_opens_think: the prompt ends in ``<think>``, so that the completion begins inside the thought.

    Raises:
        ConfigError: no part, or one that does not exist.
    """

    name = "format"

    def __init__(self, *, require: Sequence[str] = ("think", "boxed"), prompt_opens_think: bool = False) -> None:
        require = (require,) if isinstance(require, str) else tuple(require)
        if not require or not set(require) <= set(_PARTS):
            raise ConfigError(
                f"The verifier 'format' has require = {list(require)}; give one or more of {', '.join(_PARTS)}."
            )
        self.require = require
        self.prompt_opens_think = prompt_opens_think

    def verdict(self, completion: str, answer: str) -> Verdict:
        """See `OneByOneVerifier.verdict`; ``detail`` names the parts that are missing."""
        missing = [part for part in _PARTS if part in self.require and not self._has(part, completion)]
        return Verdict(float(not missing), detail=f"without {', '.join(missing)}" if missing else "")

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        # With `prompt_opens_think` the tag is taken for granted and not read.
        return super().verdicts(replace(batch, opened=None) if self.prompt_opens_think else batch)

    def _has(self, part: str, completion: str) -> bool:
        if part == "think":
            return self._thought(completion).strip() != ""
        after = completion.rpartition(_CLOSE_THINK)[2]
        if part == "boxed":
            return extract_answer(after).how == "boxed"
        if "think" not in self.require:  # then the reasoning stands before the tag
            after = after[max(after.find("<answer>"), 0) :]
        found = _ANSWER.fullmatch(after.strip())
        return (
            found is not None and found[1].strip() != "" and "<answer>" not in found[1] and "</answer>" not in found[1]
        )

    def _thought(self, completion: str) -> str:
        """What the one thought holds; nothing if there is none, or more than one."""
        before, closed, after = completion.lstrip().partition(_CLOSE_THINK)
        if not closed or _CLOSE_THINK in after or _OPEN_THINK in after:
            return ""
        if not self.prompt_opens_think:
            if not before.startswith(_OPEN_THINK):
                return ""
            before = before.removeprefix(_OPEN_THINK)
        return "" if _OPEN_THINK in before else before
