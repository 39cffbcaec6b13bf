"""Names that differ between revisions, in tables. `words.py` and `tensors.py` apply them; edit them here.

Settings and words are written in the old dialect everywhere else. Whether a revision has the new name is found by
asking it, so that a commit between two revisions works as well.
"""

from __future__ import annotations

RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "train": {"--run": "--output"},
    "compare": {"--run": "--output"},
    "eval": {},
    "spectrum": {"--num-prompts": "--num-problems", "--generate": "--max-completion-length"},
}
"""By command: the old name of an option, and the new one. A revision whose help shows the new one is given that."""

RENAMED_KEYS = {"max_new_tokens": "max_completion_length"}
"""Keys of result files. A value under the new name is compared with that under the old one, and the check says so."""

LIMIT_SETTINGS = ("max_tokens",)
"""Settings of `dr_grpo` and `dapo` that later revisions read off the limits of the run (`RunLimits`)."""

LENGTH_LIMIT = "max_completion_length"
DEFAULT_LENGTH = 3000
"""The field of `RunLimits` for these settings, and the constant of `dr_grpo` where it has one. The losses of later
revisions are computed with it as the limit, so that they are equal."""

SIGNAL_METHODS = ("spectral_diversity", "state_volume", "spectral_novelty")
SIGNAL_MODULE = "evidence.latent_signals.signal_methods"
SIGNAL_FOLDER = "evidence/latent_signals"
"""These methods leave the package for a module in a folder of the tree, and are named ``MODULE:METHOD`` there. Where
the folder is, the root of the tree is on the path."""

INPUTS_MODULE = "relax_rl.objectives.inputs"
INPUTS_FIELDS = ("extras", "inputs")
"""Optional tensors that only one method reads were fields of `RolloutBatch`: ``old_entropy=tensor``. Later they are
constants of this module, in capitals, that are keys of one field: ``extras={OLD_ENTROPY: tensor}``."""
