"""A config from a TOML, YAML or JSON file, or a shipped one by name, with dotted overrides on top; later wins."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from relax_rl.config.code import code_in, names_in
from relax_rl.config.messages import did_you_mean
from relax_rl.config.settings import TrainConfig
from relax_rl.errors import ConfigError
from relax_rl.import_path import require_allowed
from relax_rl.redaction import without_secrets

__all__ = [
    "is_resolved",
    "load_config",
    "migrated",
    "read_overrides",
    "read_settings",
    "shipped_configs",
    "task_options",
]

NAMED = {key: str(TrainConfig.model_fields[key].default.name) for key in ("task", "objective")}
"""The tables that hold a name and that name's options, with the name used when the table gives none."""

SUFFIXES = (".toml", ".yaml", ".yml", ".json")


def shipped_configs() -> list[str]:
    """Names that ``load_config`` finds without a file."""
    folder = files("relax_rl") / "assets" / "configs"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(
    source: str | Path | TrainConfig | Mapping[str, Any] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    allow_code: Collection[str] = (),
) -> TrainConfig:
    """The config of a run.

    Args:
        source: A file (``.toml``, ``.yaml``, ``.json``, so also the ``config.json`` of a run), a run directory, the
            name of a shipped config, a config, a mapping with dotted keys or nested tables, or ``None`` for the
            defaults.
        overrides: Command-line words, ``["--trainer.max_steps", "20", "--objective=grpo"]``, or a mapping with dotted
            keys or nested tables. Words are read as TOML or JSON values (``null`` is none) and as plain text otherwise.
        allow_code: Modules that a file may name a task, a verifier or an objective of. Overrides, mappings and configs
            are the caller's own and may name any.

    An override that names another task or objective drops the options that the source gave for the former one.

    Raises:
        ConfigError: Unreadable source, unknown key (with the nearest one), wrong type, settings that do not fit, or a
            file that names code which is not allowed.
    """
    changes = read_overrides(overrides)
    config = TrainConfig(**_merge(_read(source), changes))
    if isinstance(source, str | Path):
        own = names_in(changes)
        named = {key: path for key, path in code_in(config).items() if path not in own}
        require_allowed(named, allow_code, str(source))
    return config


def read_settings(source: str | Path) -> TrainConfig:
    """The settings in a file or a run, to be looked at. Nothing may be built from them: they may name any code.

    Raises:
        ConfigError: As `load_config`, without the check of code.
    """
    return TrainConfig(**_read(source))


def read_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Command-line words, or a mapping with dotted keys, as nested tables. Raises ``ConfigError`` for broken words."""
    return _from_mapping(overrides) if isinstance(overrides, Mapping) else _from_words(overrides)


def task_options(settings: Sequence[str], data_dir: str | None = None) -> dict[str, Any]:
    """The options of a task from words of the form ``--task.key value``.

    Raises:
        ConfigError: Another section's setting, which would have no effect.
    """
    for word in settings:
        if word.startswith("--") and not word.startswith("--task."):
            raise ConfigError(f"{word} has no effect here; only the task's own options do: --task.KEY VALUE")
    options = load_config(None, ["--task", "any", *settings]).task.options
    return options if data_dir is None else options | {"data_dir": data_dir}


def is_resolved(tree: Any) -> bool:
    """Whether settings are complete, as ``to_json`` writes them into a run directory."""
    return isinstance(tree, dict) and {"task", "objective", "trainer", "dictionary"} <= tree.keys()


def _read(source: str | Path | TrainConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    if source is None:
        return {}
    if isinstance(source, TrainConfig):
        return source.model_dump()
    if isinstance(source, Mapping):
        return _from_mapping(source)
    path = Path(source)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    is_path = isinstance(source, Path) or path.suffix in SUFFIXES or path.name != str(source)
    if not is_path and source in shipped_configs():
        text, suffix = (files("relax_rl") / "assets" / "configs" / f"{source}.toml").read_text("utf-8"), ".toml"
    elif path.is_file():
        text, suffix = _text(path), path.suffix
    else:
        what = "config file" if is_path else "config file or shipped config"
        raise ConfigError(f"there is no {what} '{source}'{did_you_mean(str(source), shipped_configs())}")
    tree = _parse_file(text, suffix, path)
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} must hold a table of settings, not {type(tree).__name__}")
    return migrated(without_secrets(tree)) if path.name == "config.json" and is_resolved(tree) else tree


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run directory under today's keys.

    Before 0.2, ``output`` was called ``run``, and every run sampled with ``generate``. The only migration of settings.
    It applies to what a run wrote, never to what a person writes.
    """
    # A run of that time must not change its sampler in the middle.
    sampling = tree.get("sampling", {})
    tree = {**tree, "sampling": {"engine": "generate", **sampling} if isinstance(sampling, Mapping) else sampling}
    if "peft" not in tree and dict(tree["objective"]).get("name") == "relax":
        tree["objective"] = {"xi": 25.0, **tree["objective"]}  # what left xi out had the paper's
    if "run" not in tree or "output" in tree:
        return tree
    renamed = {"output" if key == "run" else key: value for key, value in tree.items()}
    return renamed | {"objective": _migrated_objective(tree["objective"])}


def _migrated_objective(objective: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings under today's names. A resumed ``dr_grpo`` keeps the constant that its run began with."""
    former = {"dual_bound": "dual_clip"}
    if objective.get("name") in ("dr_grpo", "dapo"):
        former["max_tokens"] = "max_completion_length"
    constant = {"max_completion_length": 3000} if objective.get("name") == "dr_grpo" else {}
    return constant | {former.get(key, key): value for key, value in objective.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {error}") from error


def _parse_file(text: str, suffix: str, path: Path) -> Any:
    try:
        if suffix == ".toml":
            return tomllib.loads(text)
        if suffix == ".json":
            return json.loads(text)
        if suffix in (".yaml", ".yml"):
            tree = yaml.load(text, Loader=_YamlLoader)
            return {} if tree is None else tree
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid {suffix[1:].upper()}: {reason}") from error
    raise ConfigError(f"{path} must end in {', '.join(SUFFIXES)} to say in which format it is written")


_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|\d+[eE][-+]?\d+)")


class _YamlLoader(yaml.SafeLoader):
    """Reads ``2e-4`` as a number, as YAML 1.2 and everybody else do; PyYAML's 1.1 makes it a string."""


_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^({_FLOAT.pattern})$"), list("-+.0123456789"))


def _from_words(words: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals:
            if not word.startswith("--"):
                raise ConfigError(f"'{word}' is not an override; write --key.sub value or key.sub=value")
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{word} needs a value, for example {word} true")
            text = rest.pop(0)
        path = tuple(part.replace("-", "_") for part in key.split("."))
        if not all(path):
            raise ConfigError(f"'{word}' is not a dotted key such as --trainer.max_steps")
        _assign(changes, path, _parse_word(path, text))
    return changes


def _from_mapping(overrides: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in overrides.items():
        _assign(changes, tuple(key.split(".")), value)
    return changes


def _assign(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set one dotted key; a bare name for a named table joins the options already given for it."""
    if path in {(key,) for key in NAMED} and isinstance(value, str):
        path = (*path, "name")
    for part in path[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"'{'.'.join(path)}' is set inside '{part}', which was given the value {inner!r} before")
        tree = inner
    before = tree.get(path[-1])
    tree[path[-1]] = _merge(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any], *, top: bool = True) -> dict[str, Any]:
    merged = dict(base)
    for key, change in changes.items():
        before = merged.get(key)
        if top and key in NAMED:
            merged[key] = _merge_named(before, change, NAMED[key])
        elif isinstance(before, Mapping) and isinstance(change, Mapping):
            merged[key] = _merge(before, change, top=False)
        else:
            merged[key] = change
    return merged


def _merge_named(before: Any, change: Any, default: str) -> Any:
    """Options belong to a name: they stay when the name stays."""
    before = {"name": before} if isinstance(before, str) else before
    if not isinstance(before, Mapping) or not isinstance(change, Mapping):
        return change
    former = before.get("name", default)
    same = change.get("name", former) == former
    return _merge(before, change, top=False) if same else change


def _parse_word(path: tuple[str, ...], text: str) -> Any:
    """A command-line word as the value it stands for; text stays text for a key whose values are text."""
    kinds = _kinds(path)
    if text == "null" or (text.lower() == "none" and NoneType in kinds):
        return None
    if kinds and all(kind in (str, NoneType) for kind in kinds):
        return text
    if text in ("True", "False"):
        return text == "True"
    if _FLOAT.fullmatch(text):
        return float(text)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    # A date is no setting of ours, and a line break would smuggle in further keys.
    return value if isinstance(value, bool | int | float | str | list | dict) and "\n" not in text else text


def _kinds(path: tuple[str, ...]) -> set[type]:
    """The types of the values that a declared key takes; empty for options and for TRL's other fields."""
    model: Any = TrainConfig
    annotation: Any = None
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return set()
        annotation = model = model.model_fields[part].annotation
    kinds: set[type] = set()
    for branch in get_args(annotation) if get_origin(annotation) is not Literal else [annotation]:
        kinds |= {type(v) for v in get_args(branch)} if get_origin(branch) is Literal else {branch}
    return kinds or {annotation}
