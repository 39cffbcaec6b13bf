"""Evaluations of a run."""

from pathlib import Path

import pytest

from relax_rl.config import load_config
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import measurement
from relax_rl.training.models import load_model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "_NUM_PROMPTS", 8)
    monkeypatch.setattr(measurement, "_NUM_SAMPLES", 4)


def evaluated(path: Path, *words: str) -> RunDirectory:
    """A run's evaluations before and after a training that did nothing."""
    settings = ["--evaluation.num_problems=4", "--evaluation.num_samples=2", *words]
    config = load_config("countdown", settings)
    run = RunDirectory.new(path)
    run.start(config)
    model, tokenizer = load_model("tiny")
    evaluation = measurement.PolicyEvaluation(
        config.evaluation, CountdownTask(), run, max_completion_length=32, num_observables=8
    )
    evaluation.before(model, tokenizer, build_objective("grpo"))
    evaluation.after(model, tokenizer)
    return run


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_a_start_that_is_known_is_not_measured_and_the_end_is_the_same(tmp_path: Path) -> None:
    both = evaluated(tmp_path / "both")
    end = evaluated(tmp_path / "end", "--evaluation.before=false")
    assert sorted(path.name for path in both.evaluations.iterdir()) == [
        "after.json",
        "before.json",
        "dictionary.safetensors",
    ]
    assert sorted(path.name for path in end.evaluations.iterdir()) == ["after.json", "dictionary.safetensors"]
    digests = {KoopmanDictionary.load(run.evaluations / "dictionary.safetensors").digest for run in (both, end)}
    assert len(digests) == 1
    results = {stage: EvaluationResult.load(both.evaluations / f"{stage}.json") for stage in ("before", "after")}
    alone = EvaluationResult.load(end.evaluations / "after.json")
    assert alone.metrics == results["after"].metrics == results["before"].metrics
    assert alone.spectrum is not None
    assert alone.spectrum.dictionary_digest in digests
