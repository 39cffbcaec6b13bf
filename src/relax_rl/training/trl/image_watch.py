"""Whether a policy still looks while it trains: a few completions of each rollout batch, read under other images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from relax_rl.config import SightConfig
from relax_rl.errors import ConfigError
from relax_rl.evaluation.prompts import SeenPrompt
from relax_rl.evaluation.sight.measures import ProblemSight
from relax_rl.evaluation.sight.measuring import Completions, TrueStates, readings_under
from relax_rl.latent.images.conditions import Condition, parse_conditions
from relax_rl.latent.images.look import Look
from relax_rl.training.inputs.provider import Observer, Rows, Trainer
from relax_rl.training.rows import images_of
from relax_rl.training.trl.strategy import is_sharded

__all__ = ["ImageWatch"]

_KINDS = ("other", "masked", "grey")
"""Conditions under which a prompt keeps its tokens."""


@dataclass(frozen=True)
class _Seen:
    """A prompt, as it is shown under each condition, and its completions."""

    looks: Mapping[str, Look]
    token_ids: Sequence[list[int]]


class ImageWatch(Observer):
    """Logs ``sight/kl/CONDITION`` and ``sight/same_choice/CONDITION``, as `relax spectrum --images` measures them.

    They are of the policy that sampled, at the temperature that it sampled with. Nothing is drawn from the random
    streams of the run, so that it trains alike with and without.

    Args:
        settings: `SightConfig` with ``prompts`` of 1 or more.
        trainer: the one that trains.
        shows: whether a problem of the task shows an image.

    Raises:
        ConfigError: a condition under which a prompt has other tokens, no image, or weights in shards.
    """

    def __init__(self, settings: SightConfig, trainer: Trainer, *, shows: bool) -> None:
        self._settings = settings
        self._trainer = trainer
        self._conditions = parse_conditions(settings.conditions)
        wrong = next((one.name for one in self._conditions if one.kind not in (*_KINDS, "true")), None)
        if wrong is not None:
            raise ConfigError(
                f"sight.conditions names {wrong!r}, under which a prompt has other tokens; choose from other, "
                "masked:SHARE and grey, or measure it with relax spectrum --images."
            )
        if not shows:
            raise ConfigError(
                "sight.prompts asks what images do, and no training problem shows one; leave it out, or name a task "
                "with images."
            )
        if is_sharded(trainer.accelerator):
            raise ConfigError(
                "sight.prompts reads completions with the whole policy, and its weights lie in shards; leave it out "
                "under FSDP and DeepSpeed."
            )
        self._seen: list[_Seen] = []
        self._figures: dict[str, float] = {}

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        """Keep a few prompts of a generation with what is shown of them; no columns."""
        self._seen = []
        looks: Sequence[Look] = output.get("looks", ())
        if not self._trainer.is_training:
            return {}
        rows_of: dict[int, list[int]] = {}
        for row, look in enumerate(looks):
            if look.images:
                rows_of.setdefault(id(look), []).append(row)
        images = [images_of(given[rows[0]]) for rows in rows_of.values()]
        for place, rows in enumerate(list(rows_of.values())[: self._settings.prompts]):
            others = [image for other in (*images[place + 1 :], *images[:place]) for image in other]
            shown = self._shown(place, given[rows[0]], looks[rows[0]], others)
            ids = [self._completion(output, row) for row in rows[: self._settings.completions]]
            if len(shown) > 1 and any(ids):
                self._seen.append(_Seen(shown, [one for one in ids if one]))
        return {}

    def before_updates(self, batches: list[Rows]) -> None:
        """Read what was kept, before the policy that sampled it moves."""
        names = [condition.name for condition in self._conditions if condition.kind != "true"]
        found = self._read() if self._seen else {}
        sums = torch.zeros(len(names), 3, dtype=torch.float64, device=self._trainer.accelerator.device)
        for place, name in enumerate(names):
            for one in found.get(name, {}).values():
                sums[place] += torch.tensor([one.kl.sum(), one.same_choice.sum(), len(one.kl)], dtype=torch.float64)
        totals: Tensor = self._trainer.accelerator.reduce(sums, reduction="sum")
        self._figures = {}
        for name, (kl, same, count) in zip(names, totals.tolist(), strict=True):
            if count and np.isfinite(kl):
                self._figures |= {f"sight/kl/{name}": kl / count, f"sight/same_choice/{name}": same / count}
        self._seen = []

    def figures(self) -> dict[str, float]:
        return self._figures

    def _shown(self, place: int, row: dict[str, Any], look: Look, others: Sequence[Image]) -> dict[str, Look]:
        """By condition; without one that cannot be shown."""
        shown = {"true": look}
        for condition in self._conditions[1:]:
            alter = self._alteration(condition, place, images_of(row), others)
            if alter is not None:
                shown[condition.name] = self._trainer.altered([row], [look], alter)[0]
        return shown

    def _alteration(
        self, condition: Condition, prompt: int, own: Sequence[Image], others: Sequence[Image]
    ) -> Callable[[Image, str], Image] | None:
        if condition.kind == "other":
            donor = next((image for image in others if not any(_is_same(image, one) for one in own)), None)
            return None if donor is None else lambda image, _: donor.convert("RGB").resize(image.size)
        trainer = self._trainer
        seed = (trainer.args.seed, trainer.state.global_step, trainer.accelerator.process_index, prompt)
        return lambda image, place: condition.altered(image, f"{seed} {place}")

    def _completion(self, output: Rows, row: int) -> list[int]:
        ids: Tensor = output["completion_ids"][row][output["completion_mask"][row].bool()]
        return ids[: self._settings.max_positions].tolist()

    def _read(self) -> dict[str, dict[int, ProblemSight]]:
        """By condition, then by completion."""
        pairs = [(seen, ids) for seen in self._seen for ids in seen.token_ids]
        names = [str(place) for place in range(len(pairs))]
        # Equal looks are equal prompts, so that each is looked at once.
        prompts = {id(look): SeenPrompt(look) for seen, _ in pairs for look in seen.looks.values()}
        held = Completions(
            ids=names,
            units=names,
            token_ids=[ids for _, ids in pairs],
            prompts={
                condition.name: [
                    None if (look := seen.looks.get(condition.name)) is None else prompts[id(look)] for seen, _ in pairs
                ]
                for condition in self._conditions
            },
        )
        return readings_under(
            self._trainer.policy, held, TrueStates({}, {}), {}, (), temperature=self._trainer.temperature
        )


def _is_same(first: Image, second: Image) -> bool:
    return first is second or (first.size == second.size and first.tobytes() == second.tobytes())
