"""A trained model to the Hub: the folder that a run hands over, and nothing of what a resume needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory

__all__ = ["Pushed", "push"]

_KEPT_HERE = ("training_args.bin", "optimizer", "scheduler", "rng_state", "rank_", "trainer_state", "manifest", ".")
_MODELS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Pushed:
    """Upload, done or rehearsed.

    Attributes:
        folder: on this machine.
        repo: on the Hub.
        files: names and sizes in bytes.
        url: address of the commit; "" for a rehearsal.
        notes: sentences on what a reader of the repository will miss.
    """

    folder: Path
    repo: str
    files: tuple[tuple[str, int], ...]
    url: str = ""
    notes: tuple[str, ...] = ()


def push(
    source: str | Path,
    repo: str,
    *,
    is_best: bool = False,
    is_public: bool = False,
    dry_run: bool = False,
    api: Any = None,
) -> Pushed:
    """Upload a model with its card.

    Args:
        source: a run that has ended, whose ``final`` is taken; or a model's or adapter's folder.
        repo: ``owner/name``, made if there is none.
        is_best: a run's ``best`` in place of ``final``.
        is_public: whether a repository that is made is public.
        dry_run: look, and upload nothing.
        api: client of the Hub, a `huggingface_hub.HfApi`; made when None.

    Raises:
        RunError: a run without that folder.
        ConfigError: no model there, an adapter of a folder on this machine, a repository's name that cannot be one, or
            a Hub that cannot be reached or gives no right to write.
    """
    folder = _folder(source, "best" if is_best else "final")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"{repo!r} is no repository on the Hub; write owner/name")
    notes = _check(folder, source)
    files = tuple((path.name, path.stat().st_size) for path in _files(folder))
    if dry_run:
        return Pushed(folder, repo, files, notes=notes)
    hub = _hub() if api is None else api
    from huggingface_hub.errors import HfHubHTTPError

    try:
        hub.create_repo(repo, private=not is_public, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[name for name, _ in files],
            commit_message="Model and card, by relax push",
        )
    except (HfHubHTTPError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{repo} cannot be written ({words}); check its name and your token (hf auth whoami)"
        ) from error
    return Pushed(folder, repo, files, str(commit), notes)


def _folder(source: str | Path, name: str) -> Path:
    if not RunDirectory(str(source)).is_run():
        if name == "best":
            raise ConfigError(f"--best is about a run, and {source} is none; leave it out")
        return Path(source)
    run = RunDirectory.open(str(source))
    folder = run.path / name
    if not folder.is_dir():
        how = (
            "set evaluation.every in a run to have it" if name == "best" else "continue it with 'relax train --resume'"
        )
        raise RunError(f"the run {run.path} has no {name} model; {how}, or name a checkpoint's folder")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(_KEPT_HERE))


def _check(folder: Path, source: str | Path) -> tuple[str, ...]:
    if not any((folder / name).is_file() for name in _MODELS):
        raise ConfigError(f"there is no model in {folder}: it has neither {' nor '.join(_MODELS)}")
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = str(json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path"))
        if Path(base).expanduser().exists():
            raise ConfigError(
                f"the adapter in {folder} is one of {base}, a folder of this machine that nobody else has; merge it "
                f"first: relax merge {source} DIR"
            )
    card = folder / "README.md"
    if not card.is_file():
        return ("there is no card (README.md)",)
    has_licence = "\nlicense:" in card.read_text("utf-8")
    return () if has_licence else ("the card names no licence: that of the start is not known here",)


def _hub() -> Any:
    import huggingface_hub
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise ConfigError("HF_HUB_OFFLINE keeps this process off the Hub; unset it, or look first with --dry-run")
    if huggingface_hub.get_token() is None:
        raise ConfigError("there is no token for the Hub; run 'hf auth login' or set HF_TOKEN, or look with --dry-run")
    return huggingface_hub.HfApi()
