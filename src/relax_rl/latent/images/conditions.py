"""Substitutes for an image, to find out its effect on a model: another image, a masked or a grey one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image, ImageDraw

from relax_rl.errors import ConfigError

__all__ = ["PATCH", "USUAL_CONDITIONS", "Condition", "ConditionKind", "masked", "parse_conditions"]

ConditionKind = Literal["true", "other", "masked", "grey", "none", "words"]
PATCH = 14
"""Side of a masked square in pixels, as in PAPO and VPPO."""
_GREY = (128, 128, 128)
_ABOUT: dict[ConditionKind, str] = {
    "true": "the problem's own images",
    "other": "those of another problem",
    "masked": "with a share of their squares black",
    "grey": "grey ones of the same size",
    "none": "no image",
    "words": "words in their place",
}


@dataclass(frozen=True)
class Condition:
    """The image that is shown.

    Attributes:
        kind: one of `ConditionKind`.
        share: share of black squares of "masked".
    """

    kind: ConditionKind
    share: float | None = None

    @property
    def name(self) -> str:
        """As it is written: "masked:0.6"."""
        return self.kind if self.share is None else f"{self.kind}:{self.share:g}"

    @property
    def about(self) -> str:
        """The same in words."""
        return _ABOUT[self.kind] if self.share is None else f"with {self.share:g} of their squares black"

    def altered(self, image: Image.Image, seed: str, patch: int = PATCH) -> Image.Image:
        """An image of the same size under "true", "masked" or "grey".

        Args:
            seed: seed of the squares that are black; those of a smaller share are among those of a larger one.
            patch: side of a square in pixels.

        Raises:
            ConfigError: a kind that does not alter an image.
        """
        if self.kind == "true":
            return image
        if self.kind == "grey":
            return Image.new("RGB", image.size, _GREY)
        if self.kind == "masked" and self.share is not None:
            return masked(image, self.share, seed, patch)
        raise ConfigError(f"The condition {self.name!r} shows no altered image; report this.")


USUAL_CONDITIONS = "true,other,masked:0.6,grey,none"


def parse_conditions(words: str | Sequence[str]) -> list[Condition]:
    """Conditions from their names, with commas between them; "true" comes first, and is added where it is missing.

    Raises:
        ConfigError: an unknown name, a name twice, or "masked" without a share between 0 and 1.
    """
    names = [name.strip() for name in (words.split(",") if isinstance(words, str) else words)]
    found = [_parsed(name) for name in names if name and name != "true"]
    if not found:
        raise ConfigError("Name at least one condition beside 'true', such as other,masked:0.6,grey,none.")
    twice = next((one.name for one in found if found.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"The condition {twice!r} is named twice; name it once.")
    return [Condition("true"), *found]


def _parsed(name: str) -> Condition:
    kind, _, share = name.partition(":")
    if kind not in get_args(ConditionKind) or (share and kind != "masked"):
        raise ConfigError(f"There is no condition {name!r}; there are other, masked:SHARE, grey, none and words.")
    if kind != "masked":
        return Condition(kind)  # pyright: ignore[reportArgumentType] - checked above
    try:
        number = float(share)
    except ValueError:
        number = float("nan")
    if not 0 < number <= 1:
        raise ConfigError(f"The condition {name!r} needs the share of its squares that are black: masked:0.6.")
    return Condition("masked", number)


def masked(
    image: Image.Image, share: float, seed: str, patch: int = PATCH, *, independent: bool = False
) -> Image.Image:
    """An image with some of its squares black.

    Args:
        share: share of the squares, from 0 to 1.
        seed: seed of the choice.
        patch: side of a square in pixels; those at the right and lower edge may be cut.
        independent: each square by its own draw, as in PAPO and VPPO; otherwise the share is met as nearly as can be.
    """
    columns, rows = (-(-side // patch) for side in image.size)
    rng = random.Random(hashlib.blake2b(seed.encode(), digest_size=16).digest())
    keys = [rng.random() for _ in range(columns * rows)]
    black = [place for place, key in enumerate(keys) if key < share]
    if not independent:
        black = sorted(range(len(keys)), key=keys.__getitem__)[: round(share * len(keys))]
    shown = image.convert("RGB")
    pencil = ImageDraw.Draw(shown)
    for place in black:
        x, y = patch * (place % columns), patch * (place // columns)
        pencil.rectangle((x, y, x + patch - 1, y + patch - 1), fill="black")
    return shown if shown is not image else shown.copy()
