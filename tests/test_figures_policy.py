"""The embedded image-text policy: small, offline, true to its record; its lessons tell the truth."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import load_config
from relax_rl.rewards import grade
from relax_rl.tasks.figures import KINDS, FiguresTask

FIGURES = Path(str(files("relax_rl.assets"))) / "figures"
SCRIPT = Path(__file__).parents[1] / "scripts" / "build_figures_policy.py"
TASK = FiguresTask(level=1)
ASKED = [(name, ask) for name in TASK.kind_names for ask in KINDS[name].easy]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads((FIGURES / "build.json").read_text(encoding="utf-8"))


def test_everything_together_is_smaller_than_8_mb() -> None:
    assert sum(path.stat().st_size for path in FIGURES.rglob("*")) < 8e6
    assert not [path.name for path in FIGURES.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_record_belongs_to_these_weights_and_to_this_task(record: dict[str, Any]) -> None:
    assert hashlib.sha256((FIGURES / "model.safetensors").read_bytes()).hexdigest() == record["sha256"]
    task = FiguresTask(level=1)
    assert record["task"] == {"name": "figures", "level": 1, "side": task.pixels, "kinds": list(task.kind_names)}
    assert 0.15 <= record["held_out"]["mean@1"] <= 0.35


def test_its_config_is_of_its_task() -> None:
    settings = load_config("figures")
    assert (settings.model, settings.task.name, settings.task.options) == ("figures", "figures", {"level": 1})
    assert settings.evaluation.num_problems % FiguresTask(level=1).group_size == 0


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("build_figures_policy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "ask"), ASKED)
def test_a_lesson_goes_the_right_way_or_that_of_the_slip(script: Any, name: str, ask: int) -> None:
    kind, rng = KINDS[name], random.Random(ask)
    drawn = [
        values for values in (kind.draw(ask, 1, rng) for _ in range(20)) if kind.slip(values) != kind.answer(values)
    ]
    for is_right in (True, False):
        texts = [script.way(name, values, is_right=is_right) for values in drawn]
        golds = [f"[integer] {kind.answer(values)}" for values in drawn]
        assert {one.score for one in grade(TASK.verifier, texts, golds)} == {float(is_right)}


def test_lessons_by_hand(script: Any) -> None:
    def both(name: str, ask: int, shown: tuple[int, ...], target: tuple[int, ...] = ()) -> tuple[str, str]:
        values = script.Values(ask, shown, target)
        return script.way(name, values, is_right=True), script.way(name, values, is_right=False)

    assert both("bars", 1, (1, 3, 8, 5)) == ("A3 B8 C5 8-3=\\boxed{5}", "A3 B8 C5 highest\\boxed{8}")
    assert both("clock", 1, (3, 40)) == ("short 3 long 8 short hand\\boxed{3}", "short 3 long 8 long hand\\boxed{8}")
    assert both("graph", 0, (0, 1, 4, 14, 24)) == ("+-+- zeros\\boxed{3}", "+-+- turns\\boxed{2}")
    assert both("table", 1, (2, 1, 2, 3, 4), (0, 1)) == ("A 1 2 B 3 4 1+2=\\boxed{3}", "A 1 2 B 3 4 3+4=\\boxed{7}")


def test_lessons_are_of_training_figures_and_their_numbers_fit_the_head(script: Any) -> None:
    stream = script.lessons(random.Random(0), 0.4)
    for _ in range(200):
        figure = next(stream).figure
        numbers = script.numbers_of(figure.kind, figure.values)
        assert not TASK.is_test(figure.kind, figure.values)
        assert len(numbers) <= script.SLOTS
        assert all(0 <= number < script.NUMBERS for number in numbers)


def test_the_words_of_lessons_survive_the_tokenizer(script: Any) -> None:
    tokenizer, stream = script.build_tokenizer(), script.lessons(random.Random(1), 0.5)
    for _ in range(50):
        lesson = next(stream)
        for text in (lesson.question, lesson.completion):
            assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(lesson.completion)) < script.MAX_NEW_TOKENS


@pytest.mark.slow
def test_it_is_the_real_family_with_its_processor_and_its_record_holds(record: dict[str, Any]) -> None:
    from relax_rl.evaluation.runner import evaluate
    from relax_rl.training.models import load_model

    model: Any
    model, processor = load_model("figures")
    assert (type(model).__name__, type(processor).__name__) == ("Idefics3ForConditionalGeneration", "Idefics3Processor")
    assert model.num_parameters() == record["parameters"]
    result = evaluate(
        model.eval(), processor, FiguresTask(level=1), num_problems=64, num_samples=8, max_completion_length=40
    )
    assert result.metrics["mean@1"].value == pytest.approx(record["held_out"]["mean@1"], abs=0.08)
    assert result.breakdown["worst"].value < result.metrics["mean@1"].value


@pytest.mark.slow
def test_it_trains_and_is_measured_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    small = ["--evaluation.num_problems", "8", "--evaluation.num_samples", "2", "--trainer.max_steps", "1"]
    few = ["--trainer.per_device_train_batch_size", "16", "--trainer.gradient_accumulation_steps", "1"]
    assert main(["train", "figures", "--train-problems", "32", *small, *few, "--output", str(run)]) == 0
    capsys.readouterr()
    asked = ["eval", str(run), "--task", "figures", "--task.level", "1", "-n", "8", "-k", "2"]
    assert main([*asked, "--output", str(tmp_path / "eval")]) == 0
    printed = capsys.readouterr().out
    assert "worst" in printed
    assert "robustness" in printed
