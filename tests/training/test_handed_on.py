"""What is given at one door arrives at the next: TRL's own arguments, the parts of a run, the place of a model."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from relax_rl.config import GuardConfig
from relax_rl.errors import ConfigError, ModelError
from relax_rl.objectives import build_objective
from relax_rl.rewards import MathVerifier
from relax_rl.rewards.functions import Rewards
from relax_rl.runs import RunDirectory
from relax_rl.training import models
from relax_rl.training.trl import assembly, group_sampler
from relax_rl.training.trl.callbacks import MetricsFile
from relax_rl.training.trl.guarded import GuardedTrainer
from relax_rl.training.trl.policy import PolicyTrainer
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.rollouts import RolloutTrainer
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.training.trl.what_ran import StartsFile


class ArrivedError(Exception):
    """What was given is known; nothing more need happen."""


class Given:
    """Stands in for a call, and takes down what it was given."""

    def __init__(self, result: Any = None, error: type[Exception] | None = None) -> None:
        self.places: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}
        self._result, self._error = result, error

    def __call__(self, *places: Any, **named: Any) -> Any:
        self.places, self.named = places, named
        if self._error is not None:
            raise self._error("as asked")
        return self._result


@pytest.fixture
def arguments(tmp_path: Path) -> RelaxConfig:
    return RelaxConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        num_generations=4,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )


def given_to(monkeypatch: pytest.MonkeyPatch) -> Given:
    given = Given(error=ArrivedError)
    monkeypatch.setattr(RolloutTrainer, "__init__", lambda self, **named: given(**named))
    return given


def test_all_that_trl_takes_arrives_at_trl(monkeypatch: pytest.MonkeyPatch, arguments: RelaxConfig) -> None:
    arrived = given_to(monkeypatch)
    own = {"self", "args", "objective", "objective_options", "card"}
    given = {name: object() for name in inspect.signature(RelaxTrainer.__init__).parameters if name not in own}
    given["train_dataset"] = SimpleNamespace(column_names=["prompt"])
    with pytest.raises(ArrivedError):
        RelaxTrainer(args=arguments, objective="grpo", **given)  # pyright: ignore[reportArgumentType]
    args = arrived.named.pop("args")
    assert arrived.named == given
    assert args.output_dir == arguments.output_dir


def test_a_reference_is_asked_for_where_the_objective_needs_one_and_no_adapter_gives_it(
    monkeypatch: pytest.MonkeyPatch, arguments: RelaxConfig
) -> None:
    arrived = given_to(monkeypatch)
    from_nowhere = SimpleNamespace(config=SimpleNamespace(_name_or_path=""))
    pull = {"objective": "grpo", "objective_options": {"beta": 0.25}}
    with pytest.raises(ConfigError, match="made in memory"):
        RelaxTrainer(from_nowhere, args=arguments, **pull)
    with pytest.raises(ArrivedError):
        RelaxTrainer(from_nowhere, args=arguments, peft_config=object(), **pull)
    assert arrived.named["args"].beta == 0.25
    with pytest.raises(ArrivedError):
        RelaxTrainer(from_nowhere, args=arguments, objective="grpo")
    arguments.per_device_eval_batch_size = 3
    with pytest.raises(ArrivedError):
        RelaxTrainer(from_nowhere, args=arguments, objective="grpo")
    with pytest.raises(ConfigError, match="per_device_eval_batch_size = 3"):
        RelaxTrainer(from_nowhere, args=arguments, objective="grpo", eval_dataset=object())


def assembled(monkeypatch: pytest.MonkeyPatch, made: Given, folder: Path, args: Any, **more: Any) -> Any:
    monkeypatch.setattr(assembly, "RelaxTrainer", made)
    monkeypatch.setattr(assembly, "rehearse_optimisation", lambda trainer: None)
    parts = {"card": "card", "max_batches": 3, "branching": None, "group_sampler": None, "guard": GuardConfig()}
    prompts: Any = "prompts"
    rewards = more.pop("rewards", Rewards(MathVerifier(num_workers=1), ()))
    return assembly.run_trainer(
        RunDirectory(folder), build_objective("grpo"), rewards, prompts, "model", "words", args, **(parts | more)
    )


def test_a_run_hands_its_parts_to_the_trainer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: RelaxConfig
) -> None:
    removed: list[Any] = []
    added: list[Any] = []
    made = Given(SimpleNamespace(args=arguments, remove_callback=removed.append, add_callback=added.append))
    arguments.push_to_hub, arguments.seed = True, 5
    parts: dict[str, Any] = {
        name: object() for name in ("branching", "group_sampler", "guard", "notices", "most_prompt_tokens")
    }
    trainer = assembled(monkeypatch, made, tmp_path, arguments, **parts)
    assert {name: made.named[name] for name in parts} == parts
    named = {"card": "card", "max_batches": 3, "model": "model", "args": arguments}
    named |= {"processing_class": "words", "train_dataset": "prompts"}
    assert {name: made.named[name] for name in named} == named
    assert made.named["objective"].name == "grpo"
    assert isinstance(made.named["recorder"], RolloutRecorder)
    assert [type(callback) for callback in made.named["callbacks"]] == [MetricsFile]
    assert [function.__name__ for function in made.named["reward_funcs"]] == ["math"]
    assert (removed, trainer.args.push_to_hub) == ([PrinterCallback], True)
    assert [type(callback) for callback in added] == [StartsFile]
    torch.manual_seed(5)
    expected = torch.rand(1)
    assembled(monkeypatch, made, tmp_path, arguments, notices=None)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError, "TRL refuses the settings under 'trainer': as asked"), (ModelError, "^as asked$")],
)
def test_what_trl_refuses_is_one_sentence(
    error: Any, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: RelaxConfig
) -> None:
    with pytest.raises(ConfigError if error is ValueError else error, match=words):
        assembled(monkeypatch, Given(error=error), tmp_path, arguments, notices=None)


def test_the_sampler_of_rollouts_hands_on_its_settings(monkeypatch: pytest.MonkeyPatch, arguments: RelaxConfig) -> None:
    drawn = [(5, 6), (7,), (8,), (9,)]
    sampled = Given([[SimpleNamespace(token_ids=ids) for ids in drawn]])
    monkeypatch.setattr(group_sampler, "sample_completions", sampled)
    named = {"max_completion_length": 9, "temperature": 0.7, "top_p": 0.9, "seed": 4}
    for name, value in named.items():
        setattr(arguments, name, value)
    sampler = group_sampler.group_sampler(arguments)
    assert sampler is not None
    assert sampler.completions("model", "words", [[1]] * 4, ["here"]) == [[5, 6], [7], [8], [9]]
    assert sampled.places == ("model", "words", [[1]], 4)
    assert {name: sampled.named[name] for name in (*named, "keys")} == named | {"keys": ["here"]}


# Models -----------------------------------------------------------------------------------------------------------


def test_the_revision_of_a_model_reaches_every_file_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, load in (
        ("AutoTokenizer", models.load_tokenizer),
        ("AutoProcessor", models.load_processor),
        ("AutoConfig", models.model_config),
    ):
        asked = Given(error=OSError)
        monkeypatch.setattr(models, name, SimpleNamespace(from_pretrained=asked))
        with pytest.raises(ModelError, match="from tiny: as asked"):
            load("tiny", "v2")
        assert asked.named["revision"] == "v2"
        assert asked.named.get("padding_side", "left") == "left"
    made = Given()
    monkeypatch.setattr(models.contracts, "empty_model", made)
    models.empty_model("tiny", "v2")
    assert (made.places[1:], made.named) == (("v2",), {"name": "tiny"})


def test_weights_are_read_as_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Given(error=KeyError)
    monkeypatch.setattr(models.contracts, "model_class_of", lambda config: SimpleNamespace(from_pretrained=asked))
    with pytest.raises(ModelError, match="No language model could be loaded from tiny: "):
        models.load_model("tiny", "bfloat16", device_map="auto")
    assert asked.named["dtype"] is torch.bfloat16
    assert asked.named["device_map"] == "auto"
    assert asked.named["output_loading_info"] is True
    assert asked.named["ignore_mismatched_sizes"] is True
    with pytest.raises(ConfigError, match="dtype is 'float16'"):
        models.load_model("tiny", "float16")


def test_a_model_without_a_cache_of_ours_is_refused_before_its_weights_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(config: Any) -> None:
        raise ModelError("no cache")

    monkeypatch.setattr(models, "cache_plan", refuse)
    monkeypatch.setattr(models, "read_weights", Given(error=ArrivedError))
    with pytest.raises(ModelError, match="no cache"):
        models.load_model("tiny")


def test_a_prompt_that_is_too_long_loses_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GRPOTrainer, "_tokenize_prompts", lambda *_: ([[1, 2, 3, 4, 5], [6]], "images"))
    for most, ids in ((2, [[4, 5], [6]]), (None, [[1, 2, 3, 4, 5], [6]])):
        trainer: Any = object.__new__(PolicyTrainer)
        trainer._most_prompt_tokens = most
        assert PolicyTrainer._tokenize_prompts(trainer, []) == (ids, "images")


def test_a_tokenizer_without_a_pad_token_pads_with_its_end() -> None:
    tokenizer = models.load_tokenizer("tiny")
    assert tokenizer.padding_side == "left"
    tokenizer.pad_token = None
    models.complete_tokenizer(models.load_model("tiny")[0], tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token


# Whether the guard sees gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sees"),
    [
        ({}, True),
        ({"is_fsdp_enabled": True}, False),
        ({"is_deepspeed_enabled": True}, False),
        ({"_has_mixed_mesh_grads": lambda model: True}, False),
        ({"accelerator": SimpleNamespace(distributed_type="XLA", scaler=None)}, False),
        ({"accelerator": SimpleNamespace(distributed_type="NO", scaler=object())}, False),
    ],
)
def test_gradients_are_judged_where_they_are_whole_and_of_their_size(changes: dict[str, Any], sees: bool) -> None:
    whole: dict[str, Any] = {
        "is_fsdp_enabled": False,
        "is_deepspeed_enabled": False,
        "_has_mixed_mesh_grads": lambda model: False,
        "model": None,
        "accelerator": SimpleNamespace(distributed_type="NO", scaler=None),
    }
    trainer = SimpleNamespace(**(whole | changes))
    assert GuardedTrainer._sees_gradients.fget(trainer) is sees  # pyright: ignore[reportAttributeAccessIssue]


def test_a_checkpoint_of_another_model_is_refused_and_a_tied_head_is_none() -> None:
    def check(missing: list[str], unexpected: list[str]) -> None:
        model = SimpleNamespace(all_tied_weights_keys={"head": "embed"}, _keys_to_ignore_on_save=["buffer"])
        trainer: Any = SimpleNamespace(model=None, accelerator=SimpleNamespace(unwrap_model=lambda _: model))
        loaded = SimpleNamespace(missing_keys=missing, unexpected_keys=unexpected)
        PolicyTrainer._issue_warnings_after_load(trainer, loaded)

    check(["head", "buffer"], [])
    with pytest.raises(ModelError, match="The checkpoint lacks other,"):
        check(["head", "other"], ["more"])
    with pytest.raises(ModelError, match="The checkpoint holds more,"):
        check([], ["more"])
