"""Runs of a comparison: methods x seeds, made from one config, alike in everything but the method.

A method is written as ``NAME`` or ``NAME:OPTION=VALUE:OPTION=VALUE``; an option with a dot is a setting of the run,
such as ``relax:alpha=0.3:trainer.learning_rate=1e-4``. One's own method is ``package.module:function``, and its options
follow in the same way. Or a method is a table of a TOML file, whose title is the label and whose content is that of a
config.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig, load_config
from relax_rl.config.code import names_in
from relax_rl.config.loading import read_overrides
from relax_rl.errors import ConfigError, RunError
from relax_rl.import_path import require_allowed
from relax_rl.runs import RunDirectory, differing_keys

__all__ = ["Method", "PlannedRun", "parse_methods", "parse_seeds", "plan_runs"]

MOST_SEEDS = 1000

_OWN = ("objective.", "dictionary.", "trainer.")
_BUDGET = (
    "max_steps",
    "num_generations",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "num_iterations",
    "max_completion_length",
)
"""Settings of ``[trainer]`` that decide how much is sampled, of which prompts, and how often it is trained on."""


@dataclass(frozen=True)
class Method:
    """One contender.

    Attributes:
        label: distinguishes it from the others.
        settings: its changes to the config, as words or as a table.
    """

    label: str
    settings: Sequence[str] | Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^\w.=+-]+", "-", self.label).strip("-.") or "method"


@dataclass(frozen=True)
class PlannedRun:
    """One run of the comparison."""

    method: str
    seed: int
    config: TrainConfig

    @property
    def label(self) -> str:
        return f"{self.method} seed {self.seed}"

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.config.output_path)

    def is_finished(self) -> bool:
        """Whether the evaluation at the end, which a run writes last, is there."""
        return self.directory.is_evaluated("after")

    @property
    def has_checkpoint(self) -> bool:
        """Whether training was begun and can be resumed."""
        return self.directory.is_run() and self.directory.latest_checkpoint() is not None

    def check_kept(self) -> None:
        """Refuse to resume the run in the folder unless it is this very run. Raises ``RunError``."""
        directory = self.directory
        if not directory.is_run():
            return
        # What `auto` came to is in the run.
        different = [
            (key, before, now)
            for key, before, now in differing_keys(directory.read_config(), self.config)
            if key != "output" and (key, now) != ("sampling.engine", "auto")
        ]
        if different:
            changes = ", ".join(f"{key} was {before!r} and is now {now!r}" for key, before, now in different)
            raise RunError(
                f"the run {directory.path} was started with other settings: {changes}; give the comparison another "
                "folder with --output DIR, or replace its runs with --overwrite"
            )


def parse_methods(
    given: str | Path | Sequence[str] | Mapping[str, Mapping[str, Any]], allow_code: Collection[str] = ()
) -> list[Method]:
    """The contenders.

    Args:
        given: words with commas between, the words themselves, a TOML file, or what such a file holds.
        allow_code: modules that a file may name methods of.

    Raises:
        ConfigError: an empty list, a label given twice, or a file that cannot be read or names code without permission.
    """
    if isinstance(given, Mapping):
        methods = [Method(label, table) for label, table in given.items()]
    elif isinstance(given, Path) or (isinstance(given, str) and given.endswith(".toml")):
        methods = _from_file(Path(given), allow_code)
    else:
        methods = [_from_word(word) for word in (given.split(",") if isinstance(given, str) else given)]
    if not methods:
        raise ConfigError("--methods is empty; name at least one method")
    folders: dict[str, str] = {}
    for method in methods:
        if other := folders.get(method.folder.lower()):
            clash = "is named twice" if other == method.label else f"and '{other}' would share a folder"
            raise ConfigError(f"--methods: '{method.label}' {clash}; give each method a label of its own")
        folders[method.folder.lower()] = method.label
    return methods


def _from_word(word: str) -> Method:
    name, *pieces = word.strip().split(":")
    if name and pieces and "=" not in pieces[0]:  # package.module:function
        name += f":{pieces.pop(0)}"
    if not name or "=" in name:
        raise ConfigError(f"--methods: '{word}' does not begin with a method; write NAME or NAME:OPTION=VALUE")
    options: list[str] = []
    for piece in pieces:
        if "=" in piece:
            options.append(piece)
        else:  # a colon within a value, as in xi=quantile:0.9
            options[-1] += f":{piece}"
    words = [f"--{'' if '.' in option.partition('=')[0] else 'objective.'}{option}" for option in options]
    return Method(word.strip(), (f"--objective.name={name}", *words))


def _from_file(path: Path, allow_code: Collection[str]) -> list[Method]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--methods: cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--methods: {path} is not valid TOML: {error}") from error
    for label, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"--methods: '{label}' in {path} must be a table of settings, not {table!r}")
        code = {f"[{label}]": name for name in names_in(read_overrides(table)) if ":" in name}
        require_allowed(code, allow_code, f"--methods: {path}")
    if not tables:
        raise ConfigError(f"--methods: {path} has no table; write one for each method, titled with its label")
    return [Method(label, table) for label, table in tables.items()]


def parse_seeds(given: int | str | Sequence[int]) -> list[int]:
    """5 is the seeds 0 to 4, ``"3,7"`` and [3, 7] are those two, ``"7,"`` and [7] a single one.

    Raises:
        ConfigError: no whole number, or a seed given twice.
    """
    text = str(given) if isinstance(given, int | str) else "".join(f"{seed}," for seed in given)
    words = [word.strip() for word in text.split(",")]
    is_list = len(words) > 1
    numbers = [int(word) for word in words if word.isdecimal()]
    if len(numbers) != len([word for word in words if word]) or not numbers:
        raise ConfigError(f"--seeds is '{text}'; give their number, such as 5, or list them, such as 3,7")
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds is '{text}', which names a seed twice")
    if not is_list and not 1 <= numbers[0] <= MOST_SEEDS:
        raise ConfigError(f"--seeds is {numbers[0]}; give a number from 1 to {MOST_SEEDS}")
    return numbers if is_list else list(range(numbers[0]))


def plan_runs(
    source: str | Path | TrainConfig | Mapping[str, Any] | None,
    settings: Sequence[str] | Mapping[str, Any],
    methods: Sequence[Method],
    seeds: Sequence[int],
    folder: Path,
    allow_code: Collection[str] = (),
    *,
    match_step: bool = False,
) -> list[PlannedRun]:
    """All runs, every method of a seed before the next seed, so that what has run can be compared at any time.

    Args:
        source: the config that all share, as for `load_config`.
        settings: on top of it, for all.
        allow_code: modules that a file may name a task, a verifier or an objective of.
        match_step: every method has ``objective.match_rms``.

    Raises:
        ConfigError: settings that do not fit, or a method that changes what all must share.
    """
    overrides = read_overrides(settings)
    if "objective" in overrides:
        options = overrides["objective"]
        key = f"objective.{next(iter(options))}" if isinstance(options, dict) and options else "objective"
        raise ConfigError(f"--{key} would be for every method; write it in --methods, as NAME:OPTION=VALUE")
    base = load_config(source, overrides, allow_code=allow_code)
    if not base.evaluation.enabled:
        raise ConfigError("a comparison compares evaluations, and evaluation.enabled is false; set it to true")
    runs = []
    for seed in seeds:
        for method in methods:
            try:
                config = load_config(base, method.settings)
                if match_step:
                    config = load_config(config, {"objective.match_rms": True})
            except ConfigError as error:
                raise ConfigError(f"--methods: '{method.label}': {error}") from error
            _check_shared(method, base, config)
            place = {"seed": seed, "output": str(folder / method.folder / f"seed{seed}")}
            runs.append(PlannedRun(method.label, seed, load_config(config, place)))
    return runs


def _check_shared(method: Method, base: TrainConfig, config: TrainConfig) -> None:
    """The same start, the same prompts in the same order, equal budgets, one ruler."""
    for key, _, now in differing_keys(base, config):
        if key == "monitor" or (key.startswith(_OWN) and key.removeprefix("trainer.") not in _BUDGET):
            continue
        advice = "leave it out" if key in ("seed", "output") else f"set it for all with --{key}"
        raise ConfigError(
            f"--methods: '{method.label}' sets {key} = {now!r}, which all methods of a comparison share; {advice}"
        )
