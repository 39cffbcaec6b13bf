"""What people expect of a trainer: evaluations on the way, the best policy, a final folder with its card, a push."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import measurement
from relax_rl.training.selection import Selection
from relax_rl.workflows.held_out import training_problems
from relax_rl.workflows.progress import Progress
from relax_rl.workflows.push import push
from relax_rl.workflows.train import prepare, train

SMALL: dict[str, Any] = {
    "trainer.max_steps": 4,
    "trainer.save_steps": 2,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 24,
    "trainer.learning_rate": 1e-3,
    "evaluation.num_problems": 2,
    "evaluation.num_samples": 2,
    "evaluation.before": False,
    "dictionary.num_observables": 4,
    "dictionary.steps": 2,
}
ON_THE_WAY = SMALL | {"evaluation.every": 2, "evaluation.held_out": 3}


def varied(completions: list[str], answers: list[str]) -> list[float]:
    return [float(len(text) % 5) for text in completions]


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, told: list[Progress]) -> Path:
    path = tmp_path_factory.mktemp("expectations") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "_NUM_PROMPTS", 4)
        patch.setattr(measurement, "_NUM_SAMPLES", 4)
        settings = ON_THE_WAY | {"output": str(path)}
        train("countdown", overrides=settings, verifier=varied, on_progress=told.append)
    return path


def rows(run: Path) -> list[dict[str, Any]]:
    found = RunDirectory.open(run).read_metrics()
    return [{k: v for k, v in row.items() if not k.startswith(("step_time", "time/"))} for row in found]


@pytest.mark.slow
def test_a_policy_is_measured_on_the_way_and_the_best_is_kept(run: Path, told: list[Progress]) -> None:
    names = sorted(path.name for path in (run / "evaluations" / "during").iterdir())
    assert names == ["update_000002.json", "update_000004.json"]
    found = [json.loads((run / "evaluations" / "during" / name).read_text()) for name in names]
    assert {(one["split"], one["num_problems"], one["num_samples"]) for one in found} == {("train, held out", 3, 2)}
    chosen = json.loads((run / "best" / "selection.json").read_text())
    assert chosen["value"] == max(one["metrics"]["mean@1"]["value"] for one in found)
    assert AutoModelForCausalLM.from_pretrained(run / "best").num_parameters() > 0
    said = [event.message for event in told if event.stage == "evaluated"]
    assert [words.partition(":")[0] for words in said] == ["update 2", "update 4"]
    assert "kept in best" in said[0]


@pytest.mark.slow
def test_evaluations_on_the_way_leave_the_training_as_it_is(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain"
    held = {"train_problems": len(prepare("countdown", overrides=ON_THE_WAY | {"output": str(path)}).training.problems)}
    train("countdown", overrides=SMALL | held | {"output": str(path)}, verifier=varied)
    assert rows(path) == rows(run)


def test_a_resumed_run_measures_again_what_it_makes_again(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "checkpoint-4")
    (again / "evaluations" / "after.json").unlink()
    before = {path.name: path.read_bytes() for path in (again / "best").iterdir()}
    train(None, overrides={"output": str(again)}, resume=True, verifier=varied)
    assert rows(again) == rows(run)
    for name in ("update_000002.json", "update_000004.json"):
        place = Path("evaluations") / "during" / name
        assert (again / place).read_bytes() == (run / place).read_bytes()
    assert {path.name: path.read_bytes() for path in (again / "best").iterdir()} == before


def test_the_best_is_replaced_by_a_better_one_alone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    values = iter([0.2, 0.2, 0.5, 0.1])

    def measure() -> Any:
        estimate = SimpleNamespace(value=next(values), low=0.0, high=1.0)
        return SimpleNamespace(metrics={"mean@1": estimate}, split="held", to_dict=dict)

    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "training_args.bin").write_text("")
        (folder / "model.safetensors").write_text("")

    said: list[str] = []
    selection = Selection(1, "mean@1", measure, save, directory, said.append, "card")
    kept = []
    for update in range(1, 5):
        selection.after_update(update, 4, is_first=True)
        kept.append(json.loads((tmp_path / "best" / "selection.json").read_text())["update"])
    assert kept == [1, 1, 3, 3]
    assert said[-1] == "update 4: mean@1 0.1 [0, 1] on held; the best so far is 0.5"
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == [
        "README.md",
        "model.safetensors",
        "selection.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "evaluations"]


def test_held_out_problems_are_not_trained_on() -> None:
    task = CountdownTask.of_level()
    for given in ({}, {"train_problems": 20}):
        settings = load_config(given | {"evaluation.every": 5, "evaluation.held_out": 6})
        found = training_problems(settings, task)
        assert len(found.selecting) == 6
        assert len(found.problems) == (given.get("train_problems") or len(task.problems("train")) - 6)
        assert not {p.id for p in found.problems} & {p.id for p in found.selecting}
    named = load_config({"evaluation.every": 5, "evaluation.selection_split": "train", "train_problems": 20})
    assert training_problems(named, task).split == "train"


def test_too_few_problems_to_hold_any_out(tmp_path: Path) -> None:
    rows = [json.dumps({"problem": f"What is {i} + 1?", "answer": str(i + 1)}) for i in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    words = {"task": "math", "task.path": str(tmp_path / "p.jsonl"), "task.test_share": 0.5}
    settings = SMALL | words | {"evaluation.every": 1, "evaluation.held_out": 39, "output": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="too few to train on"):
        prepare(None, overrides=settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"evaluation.held_out": 5}, "evaluation.held_out is about evaluations during training; set evaluation.every"),
        ({"evaluation.best_by": "pass@2"}, "set evaluation.every"),
        ({"evaluation.every": 5, "evaluation.enabled": False}, "evaluation.every needs evaluations"),
        ({"evaluation.every": 5, "evaluation.selection_split": "test"}, "looks better than it is"),
        ({"evaluation.every": 5, "evaluation.best_by": "pass@3"}, "k a power of two up to evaluation.num_samples = 16"),
        ({"evaluation.every": 5, "evaluation.best_by": "dsd"}, "choose mean@1"),
    ],
)
def test_settings_of_evaluations_on_the_way_that_do_not_do(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(settings)


# What a run hands over ------------------------------------------------------------------------------------------------


def test_the_final_folder_holds_the_model_and_a_full_card(run: Path) -> None:
    final, last = run / "final", run / "checkpoints" / "checkpoint-4"
    weights = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (final, last)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {path.name for path in final.iterdir()}.isdisjoint({"optimizer.pt", "training_args.bin", "manifest.json"})
    assert (final / "model.safetensors").stat().st_nlink == 2
    card = (final / "README.md").read_text()
    for words in (
        "start: `tiny`, float32",
        "licence of the start: not known here",
        '"alpha": 0.1, "beta": 0.01, "xi": "quantile:0.9"',
        "| metric | after training |",
        "| mean@1 | ",
        "n = 2 problems, k = 2 completions",
        "Intervals: 95 %",
        "hardware: CPU (",
        "attention: sdpa",
        "rollouts: relax",
        "transformers 5.",
    ):
        assert words in card, words
    assert "base_model" not in card


def test_a_licence_is_that_of_the_start(tmp_path: Path) -> None:
    from relax_rl.training.trl.model_card import licence_of

    assert licence_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: other\n")
    assert licence_of(str(tmp_path)) == "apache-2.0"
    (tmp_path / "README.md").write_text("# A model\nlicense: other\n")
    assert licence_of(str(tmp_path)) is None


class FakeHub:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create", repo, private))

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **words: Any) -> str:
        self.calls.append(("upload", repo_id, folder_path, sorted(allow_patterns)))
        return "https://hub/commit"


def test_a_run_is_pushed_with_its_card_and_without_its_state(run: Path) -> None:
    hub = FakeHub()
    pushed = push(run, "me/model", api=hub)
    assert pushed.url == "https://hub/commit"
    assert hub.calls[0] == ("create", "me/model", True)
    kind, repo, folder, names = hub.calls[1]
    assert (kind, repo, folder) == ("upload", "me/model", run / "final")
    assert {"README.md", "model.safetensors", "tokenizer.json"} <= set(names)
    assert push(run, "me/model", api=hub, is_best=True).folder == run / "best"
    push(run / "checkpoints" / "checkpoint-4", "me/model", api=hub, is_public=True)
    assert hub.calls[-2] == ("create", "me/model", False)
    assert set(hub.calls[-1][3]).isdisjoint(
        {"optimizer.pt", "training_args.bin", "rng_state.pth", "trainer_state.json"}
    )


def test_a_push_that_cannot_be(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert main(["push", str(run), "me/model", "--dry-run"]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    assert main(["push", str(run), "me/model"]) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["push", str(run), "me/model"]) == 2
    assert "there is no token" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="write owner/name"):
        push(run, "model", api=FakeHub())
    with pytest.raises(ConfigError, match="there is no model in"):
        push(tmp_path, "me/model", api=FakeHub())
    shutil.copytree(run, tmp_path / "half", ignore=shutil.ignore_patterns("final"))
    with pytest.raises(RunError, match="has no final model"):
        push(tmp_path / "half", "me/model", api=FakeHub())


def test_an_adapter_of_a_folder_is_not_pushed(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(ConfigError, match="merge it first"):
        push(tmp_path, "me/model", api=FakeHub())


# Starting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--output", "x"], ["--seed", "1"]])
def test_training_without_a_subject_says_how_to_start(words: list[str], capsys: Any, tmp_path: Path) -> None:
    assert main(["train", *words]) == 2
    assert "relax train countdown" in capsys.readouterr().out


def test_options_of_the_model_reach_it(tmp_path: Path) -> None:
    given = {"trainer.model_init_kwargs": {"attn_implementation": "eager"}, "output": str(tmp_path / "run")}
    prepared = prepare("countdown", overrides=SMALL | given)
    reference: Any = prepared.trainer.ref_model
    assert prepared.model.config._attn_implementation == reference.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "bfloat16"}, "use 'dtype'"),
        ({"revision": "main"}, "use 'model_revision'"),
        ({"num_hidden_layers": 2}, "there are: attn_implementation"),
        ("attn_implementation", "must be a table of settings"),
    ],
)
def test_options_of_the_model_that_do_not_do(options: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare("countdown", overrides=SMALL | {"trainer.model_init_kwargs": options, "output": str(tmp_path / "run")})


def test_the_reference_is_of_the_same_revision(tmp_path: Path) -> None:
    """TRL loads it by name, and from the main revision unless told otherwise."""
    from relax_rl.training.adapters import reference_options

    settings = load_config({"model": "owner/name", "model_revision": "v2"})
    assert reference_options(settings, 0.01) == {"revision": "v2"}
    assert reference_options(settings, 0.0) is None
    assert reference_options(load_config(settings, {"peft.r": 4}), 0.01) is None


def test_the_bound_of_a_new_model_is_a_quantile() -> None:
    from relax_rl.config.loading import migrated
    from relax_rl.objectives import method_options

    assert method_options("relax")["xi"] == "quantile:0.9"
    older = json.loads(load_config("countdown").to_json())
    del older["peft"], older["objective"]["xi"]
    assert migrated(older)["objective"]["xi"] == 25.0
