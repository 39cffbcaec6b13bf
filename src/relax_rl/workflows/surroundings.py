"""Surroundings of a run, checked in the rehearsal: room on the disk, a login, rights on the Hub."""

from __future__ import annotations

import math
import netrc
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from relax_rl.config import BatchPlan
from relax_rl.config.settings import TrainerConfig
from relax_rl.errors import ConfigError, RunError

__all__ = ["bytes_of_run", "check_disk", "check_hub", "check_trackers"]

_BYTES_PER_TOKEN = 5
"""Bytes of a completion as text, with its share of the row around it."""
_BYTES_PER_ROW = 1000
"""Bytes of a completion's prompt, scores and figures."""

_LOGINS = {
    "wandb": ("WANDB_API_KEY", "api.wandb.ai", "WANDB_MODE", "wandb login"),
    "swanlab": ("SWANLAB_API_KEY", "swanlab.cn", "SWANLAB_MODE", "swanlab login"),
    "comet_ml": ("COMET_API_KEY", "", "COMET_START_ONLINE", "comet login"),
    "neptune": ("NEPTUNE_API_TOKEN", "", "NEPTUNE_MODE", "set NEPTUNE_API_TOKEN"),
}
"""Trackers that ask for a key in mid-run: its variable, its host in ~/.netrc, the variable that sends nothing, and what
to do."""
_SENDS_NOTHING = ("offline", "disabled", "dryrun", "local", "debug", "0")


def bytes_of_run(
    parameters: Iterable[Any], trainer: TrainerConfig, plan: BatchPlan, *, keeps_best: bool = False
) -> tuple[int, int]:
    """Largest size that a run writes: (one checkpoint, everything).

    Args:
        parameters: parameters of the policy.
        trainer: how many checkpoints are kept, and of what.
        plan: how much is sampled.
        keeps_best: whether the best policy on the way is kept, too.
    """
    extra = trainer.model_extra or {}
    weights = trained = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        weights += size
        trained += size * parameter.requires_grad
    moments = 2 if "adam" in str(extra.get("optim", "adamw_torch")) else 1
    checkpoint = weights + (0 if extra.get("save_only_model") else moments * trained)
    num_checkpoints = math.ceil(trainer.max_steps / trainer.save_steps)
    if trainer.save_total_limit is not None:
        # An old one is deleted once the new one is whole.
        num_checkpoints = min(num_checkpoints, trainer.save_total_limit + 1)
    if keeps_best:
        num_checkpoints += 2  # without moments, but the new one is whole before the old one goes
    completions = plan.total_completions * (_BYTES_PER_ROW + _BYTES_PER_TOKEN * trainer.max_completion_length)
    return checkpoint, num_checkpoints * checkpoint + completions


def check_disk(
    run: Path, parameters: Iterable[Any], trainer: TrainerConfig, plan: BatchPlan, *, keeps_best: bool = False
) -> None:
    """Refuse a run for which its file system has no room.

    Args:
        run: directory of the run; what is in it already is replaced, or part of what it needs.

    Raises:
        RunError: naming what is needed and what is free.
    """
    checkpoint, wanted = bytes_of_run(parameters, trainer, plan, keeps_best=keeps_best)
    place = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free + _size(run)
    if wanted > free:
        raise RunError(
            f"the run may write {_in_words(wanted)} ({_in_words(checkpoint)} each checkpoint), and {_in_words(free)} "
            f"are free for {run}; make room, lower trainer.save_total_limit, or choose another folder with --output DIR"
        )


def check_trackers(report_to: str | list[str]) -> None:
    """Refuse a tracker that would ask for a key after the first update.

    Raises:
        ConfigError: no key of it is known here.
    """
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if name not in _LOGINS:
            continue
        variable, host, mode, advice = _LOGINS[name]
        is_known = bool(os.environ.get(variable)) or (bool(host) and _in_netrc(host))
        if not is_known and os.environ.get(mode, "").lower() not in _SENDS_NOTHING:
            raise ConfigError(
                f"trainer.report_to names {name!r}, of which no key is known here; {advice}, set {variable}, "
                f"set {mode}=offline, or leave it out"
            )


def check_hub(trainer: TrainerConfig) -> None:
    """Refuse to train for a repository that could not be written in the end. Asks the Hub, if the run pushes.

    Raises:
        ConfigError: the Hub cannot be reached, knows no token, or gives it no right to write there.
    """
    extra = trainer.model_extra or {}
    if not extra.get("push_to_hub"):
        return
    import huggingface_hub
    from huggingface_hub import constants

    ask = "trainer.push_to_hub: "
    if constants.is_offline_mode():
        raise ConfigError(f"{ask}HF_HUB_OFFLINE keeps this process off the Hub; unset it, or leave push_to_hub out")
    try:
        known = huggingface_hub.whoami(token=extra.get("hub_token"))
    except (OSError, ValueError) as error:  # HTTP errors and a missing token are of these kinds
        words = type(error).__name__
        raise ConfigError(f"{ask}the Hub does not know you ({words}); run 'hf auth login', or set HF_TOKEN") from error
    token = known.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise ConfigError(
            f"{ask}the token may only read; make one that may write at https://huggingface.co/settings/tokens"
        )
    owner, slash, _ = str(extra.get("hub_model_id") or "").partition("/")
    names = [known.get("name"), *(group.get("name") for group in known.get("orgs", []))]
    if slash and owner not in names:
        raise ConfigError(
            f"trainer.hub_model_id: the token is of {known.get('name')!r}, who is no member of {owner!r}; name one of "
            f"{', '.join(str(name) for name in names)}"
        )


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _in_words(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
