"""From a run directory to the checkpoint that it is resumed from: everything that differs is refused, or said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relax_rl.errors import RunError
from relax_rl.runs.checkpoints import Checkpoint, choose
from relax_rl.runs.directory import RunDirectory
from relax_rl.runs.manifest import Manifest, installed_versions
from relax_rl.runs.settings import check_unedited

__all__ = ["Resumption", "resumption_of"]


@dataclass(frozen=True)
class Resumption:
    """Checkpoint that a run is resumed from.

    Attributes:
        checkpoint: the checkpoint; its bytes are as they were written, where it has a manifest.
        notices: notices on it, in sentences.
    """

    checkpoint: Checkpoint
    notices: tuple[str, ...]


def resumption_of(run: RunDirectory, *, also: Sequence[str] = (), other_versions: bool = False) -> Resumption:
    """The newest checkpoint that a run can be resumed from. Reads all bytes of it.

    Args:
        run: the directory.
        also: files without which a checkpoint cannot be resumed from.
        other_versions: accept packages of other versions than those that wrote the checkpoint.

    Raises:
        RunError: there is none, or something differs from what the checkpoint's manifest says: package versions,
            settings, evaluations.
    """
    choice = choose(run.checkpoints, str(run.path), also=also, objection=_rows_of(run))
    checkpoint, notices = choice.checkpoint, choice.notices()
    if checkpoint.manifest is not None:
        notices += _check_against(run, checkpoint.path.name, checkpoint.manifest, other_versions=other_versions)
    return Resumption(checkpoint, tuple(notices))


def _rows_of(run: RunDirectory) -> Callable[[Checkpoint], str | None]:
    steps = [int(row["step"]) for row in run.read_metrics()]

    def objection(checkpoint: Checkpoint) -> str | None:
        if checkpoint.manifest is None or "metrics_rows" not in checkpoint.manifest.run:
            return None
        wanted = int(checkpoint.manifest.run["metrics_rows"])
        found = sum(step <= checkpoint.step for step in steps)
        if found == wanted:
            return None
        return f"belongs to {wanted} rows of metrics.jsonl, where there are {found}"

    return objection


def _check_against(run: RunDirectory, name: str, manifest: Manifest, *, other_versions: bool) -> list[str]:
    now = installed_versions()
    different = [
        f"{package} {manifest.versions.get(package, 'missing')} instead of {now.get(package, 'missing')}"
        for package in dict.fromkeys([*manifest.versions, *now])
        if manifest.versions.get(package) != now.get(package)
    ]
    if different and not other_versions:
        raise RunError(
            f"{name} of {run.path} was written by {', '.join(different)}, so the resumed run may differ from an "
            "uninterrupted one; install those versions, or accept it with --other-versions"
        )
    if lost := run.missing_since(manifest.run):
        raise RunError(
            f"cannot resume {run.path}: {', '.join(lost)} since {name} was written, and the evaluation after "
            "training would not be comparable; put it back, or start the run again with --overwrite"
        )
    if "settings" in manifest.run:
        is_same = manifest.versions.get("relax-rl") == now["relax-rl"]
        check_unedited(manifest.run["settings"], run.read_config(), name, is_same_version=is_same)
    if not different:
        return []
    return [f"{name} was written by {', '.join(different)}: from here on the run may differ from an uninterrupted one"]
