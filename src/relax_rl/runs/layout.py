"""The files of a run.

config.json             every setting, resolved; re-runs the run
metrics.jsonl           one row a logged step: {"step": 3, "reward": 0.4, ...}; NaN and infinity are null
starts.jsonl            one row each time that training starts: strategy, processes, precision, hardware, versions
ends.jsonl              one row each time that an exception ended the training
completions/            step_000003.jsonl: a row a completion, with scores and advantage
thumbnails/             small copies of the images of some of these
evaluations/            <name>.json: what was measured of the policy; during/ holds those of the way
dynamics/               update_000050.json: spectrum and trajectories at a checkpoint; basis.safetensors
best/                   the policy that was best on the way, if it was evaluated there
final/                  the trained policy with its card
checkpoints/            checkpoint-50, ...: Hugging Face layout, and what a resume needs
.lock                   who works here; gone when nobody does
../latest               link to the run started last, in a folder called ``runs``
"""

from __future__ import annotations

from pathlib import Path

from relax_rl.runs.thumbnails import ThumbnailFolder

__all__ = ["RunLayout"]


class RunLayout:
    """The paths of one run.

    Attributes:
        path: path of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """Every setting, resolved."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One row a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def starts_path(self) -> Path:
        """One row a start of training."""
        return self.path / "starts.jsonl"

    @property
    def ends_path(self) -> Path:
        """One row an exception that ended the training."""
        return self.path / "ends.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``checkpoint-<step>`` folders; TRL's ``output_dir``."""
        return self.path / "checkpoints"

    @property
    def completions(self) -> Path:
        """Folder of ``step_<step>.jsonl`` files."""
        return self.path / "completions"

    @property
    def thumbnails(self) -> ThumbnailFolder:
        """Small copies of images, by the names that completions and samples have for them."""
        return ThumbnailFolder(self.path / "thumbnails")

    @property
    def evaluations(self) -> Path:
        """Folder of ``<name>.json`` files."""
        return self.path / "evaluations"

    @property
    def dynamics(self) -> Path:
        """Folder of the latent dynamics of the policy at its checkpoints."""
        return self.path / "dynamics"

    @property
    def best(self) -> Path:
        """Folder of the policy that was best in the evaluations during training."""
        return self.path / "best"

    @property
    def final(self) -> Path:
        """Folder of the trained policy, with its card."""
        return self.path / "final"

    def completions_path(self, step: int) -> Path:
        """The file of the rollout rows of a step."""
        return self.completions / f"step_{step:06d}.jsonl"
