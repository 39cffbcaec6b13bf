"""The settings in which a run differs, and those that may differ: they took no part in its computation so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.config.loading import migrated
from relax_rl.errors import RunError

__all__ = ["check_unedited", "differing_keys", "refuse_changes"]

MAY_CHANGE = frozenset(
    {
        "output",
        "trainer.save_total_limit",
        "trainer.report_to",
        "guard.max_consecutive",
        "guard.max_share",
        "guard.warn_after",
    }
)
"""Settings that take no part in what a run has computed so far."""

_MAX_STEPS = "trainer.max_steps"


def differing_keys(before: TrainConfig, now: TrainConfig) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, with both values; ``None`` stands for a key that is absent."""
    return _differences(_flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json")))


def refuse_changes(saved: TrainConfig, config: TrainConfig, where: str) -> list[str]:
    """Refuse to resume a run under settings that its past did not have.

    More updates are accepted at a constant learning rate, where the past stays the same.

    Args:
        saved, config: those of the run, and those asked for now.
        where: the run directory, for people.

    Returns:
        A sentence on what changes all the same.

    Raises:
        RunError: naming each difference.
    """
    notices: list[str] = []
    different = {key: (before, now) for key, before, now in differing_keys(saved, config) if key not in MAY_CHANGE}
    before, now = different.get(_MAX_STEPS, (0, 0))
    if now < before:
        raise RunError(
            f"cannot resume {where} with {_MAX_STEPS} = {now}, fewer than the {before} it was started with; leave "
            f"{_MAX_STEPS} out, and stop the run where you like: its checkpoints stay"
        )
    if now > before and _keeps_its_past(saved):
        del different[_MAX_STEPS]
        rate = f"the learning rate stays {saved.trainer.learning_rate:g}"
        notices.append(f"the run goes on to {now} updates instead of {before}; {rate}")
    elif now > before:
        raise RunError(
            f"cannot resume {where}: {_MAX_STEPS} was {before} and is now {now}, and the "
            f"{saved.trainer.lr_scheduler_type} schedule of the learning rate depends on it from the first update on; "
            "start a new run with --output DIR"
        )
    if different:
        raise RunError(
            f"cannot resume {where} with other settings: {_in_words(different)}; resume with the run's own (--resume "
            f"--output {where}, no config file), or start a new one with --output DIR"
        )
    return notices


def check_unedited(kept: Mapping[str, Any], saved: TrainConfig, checkpoint: str, *, is_same_version: bool) -> None:
    """Refuse a ``config.json`` that says something else than the run has computed so far.

    Args:
        kept: the settings in the checkpoint's manifest.
        saved: those in ``config.json``.
        checkpoint: for people.
        is_same_version: whether it is the same version of the package; another one may have added or removed settings,
            which are then passed over.

    Raises:
        RunError: naming each difference.
    """
    old, new = _flat(migrated(kept)), _flat(saved.model_dump(mode="json"))
    if not is_same_version:
        old, new = ({key: flat[key] for key in flat if key in old and key in new} for flat in (old, new))
    free = MAY_CHANGE | {_MAX_STEPS}
    different = {key: (before, now) for key, before, now in _differences(old, new) if key not in free}
    if different:
        raise RunError(
            f"config.json was edited after {checkpoint} was written: {_in_words(different)}; put the values back, or "
            "start a new run with --output DIR"
        )


def _keeps_its_past(config: TrainConfig) -> bool:
    """Whether the learning rates up to now do not depend on the number of updates."""
    kind, warmup = config.trainer.lr_scheduler_type, config.trainer.warmup_steps
    # Below 1 it is a share of all updates.
    return kind == "constant" or (kind == "constant_with_warmup" and not 0 < warmup < 1)


def _in_words(different: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key} was {before!r} and is now {now!r}" for key, (before, now) in different.items())


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = [*old, *(key for key in new if key not in old)]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
