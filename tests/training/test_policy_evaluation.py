"""The evaluations that a run makes of its own policy: what they are asked, and what they do without a dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.config.settings import EvaluationConfig
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.evaluation.replay import ReplayBatch
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import build_objective
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.runs import RunDirectory
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import measurement
from relax_rl.training.models import load_tokenizer
from relax_rl.training.notices import Notices


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A measurement whose sampling, replay and evaluation note what they were asked."""
    seen = SimpleNamespace(given=[], sampled=[], replayed=[], evaluated=[], written=[], said=[])

    class Sampler:
        """Gives the last problem's completions first."""

        def __init__(self, model: Any, tokenizer: Any, batch_size: int, form: PromptForm) -> None:
            self.asked = (batch_size, form)

        def sample(self, problems: Sequence[Problem], settings: SamplingSettings, done: Any) -> Iterator[list[Draw]]:
            seen.sampled.append(([problem.id for problem in problems], settings, *self.asked))
            for place in reversed(range(len(problems))):
                draws = range(settings.num_samples)
                yield [Draw(place, draw, Completion("", (place, draw), 2, False)) for draw in draws]

    def replay(model: Any, prompts: Sequence[Any], completions: Sequence[Any]) -> Iterator[ReplayBatch]:
        seen.replayed.append((list(map(list, prompts)), list(completions)))
        # In two batches, the last rows first, one token of each hidden.
        for part in (range(2, len(prompts)), range(2)):
            states = torch.stack([trajectory(row) for row in part])
            mask = torch.ones(states.shape[:2], dtype=torch.bool)
            mask[:, -1] = False
            yield ReplayBatch(list(part), torch.zeros(mask.shape), states, mask)

    def evaluation(**named: Any) -> Any:
        named["sampler"] = named["sampler"]._sampler.asked
        seen.evaluated.append(named)
        result = SimpleNamespace(to_dict=lambda: {"number": len(seen.evaluated)}, samples=())
        return SimpleNamespace(run=lambda: result)

    def replay_with(
        model: Any, tokenizer: Any, temperature: float, dictionary: Any, estimator: str, form: PromptForm
    ) -> dict[str, Any]:
        return {"replay": (temperature, estimator, form), "measured_by": dictionary and dictionary.digest}

    class Quick:
        """Settings whose fit is a short one."""

        @staticmethod
        def parse(given: dict[str, Any], default: Any) -> DictionarySettings:
            seen.given.append(given)
            return quick_settings(**given)

    monkeypatch.setattr(measurement, "DictionarySettings", Quick)
    monkeypatch.setattr(measurement, "TransformersSampler", Sampler)
    monkeypatch.setattr(measurement, "replay", replay)
    monkeypatch.setattr(measurement, "replay_with", replay_with)
    monkeypatch.setattr(measurement, "Evaluation", evaluation)
    monkeypatch.setattr(measurement, "_NUM_PROMPTS", 3)
    monkeypatch.setattr(measurement, "_NUM_SAMPLES", 2)
    seen.run = SimpleNamespace(
        evaluations=tmp_path / "evaluations", write_evaluation=lambda name, data: seen.written.append((name, data))
    )
    return seen


def quick_settings(**given: Any) -> DictionarySettings:
    return DictionarySettings.parse({**given, "steps": 2}, DictionarySettings())


def trajectory(row: int, length: int = 20) -> torch.Tensor:
    return torch.randn(length, 6, generator=torch.Generator().manual_seed(row)).cumsum(0)


ASKED: Mapping[str, Any] = {
    "split": "test",
    "num_problems": 3,
    "num_samples": 5,
    "temperature": 0.7,
    "top_p": 0.9,
    "batch_size": 6,
    "seed": 4,
}
POLICY = SimpleNamespace(device="cpu")


def measurement_of(seen: SimpleNamespace, **more: Any) -> measurement.PolicyEvaluation:
    notices = Notices()
    notices.listen(seen.said.append)
    settings = EvaluationConfig(**ASKED, before=more.pop("before", True))
    given: dict[str, Any] = {"max_completion_length": 20, "num_observables": 4, "say": notices} | more
    return measurement.PolicyEvaluation(settings, CountdownTask(), seen.run, **given)


def test_a_measurement_has_the_settings_of_the_run(measured: SimpleNamespace) -> None:
    form, tokenizer = PromptForm(most_tokens=5), load_tokenizer("tiny")
    evaluation = measurement_of(measured, form=form)
    evaluation.before(POLICY, tokenizer, build_objective("grpo"))
    evaluation.after(POLICY, tokenizer)
    problems = CountdownTask().problems("train")[:3]
    prompts = [list(encode_prompt(tokenizer, problem, form)) for problem in problems]
    assert measured.sampled == [([problem.id for problem in problems], SamplingSettings(2, 20, seed=4), 6, form)]
    pairs = [(prompt, (place, draw)) for place, prompt in enumerate(prompts) for draw in range(2)]
    assert measured.replayed == [([prompt for prompt, _ in pairs], [ids for _, ids in pairs])]
    expected = quick_settings(num_observables=4).fit([trajectory(row)[:-1] for row in range(6)]).digest
    assert len(measured.evaluated) == 2
    for named in measured.evaluated:
        assert named.pop("task").name == "countdown"
        assert named == {
            "sampler": (6, form),
            "settings": SamplingSettings(5, 20, 0.7, 0.9, 4),
            "split": "test",
            "num_problems": 3,
            "replay": (0.7, "paper", form),
            "measured_by": expected,
        }
    assert measured.written == [("before", {"number": 1}), ("after", {"number": 2})]
    assert KoopmanDictionary.load(measured.run.evaluations / "dictionary.safetensors").digest == expected
    assert measured.said == []


def test_a_probe_decides_over_the_observables_and_a_known_start_is_not_measured(measured: SimpleNamespace) -> None:
    evaluation = measurement_of(measured, before=False)
    probe = build_objective("relax", xi=1.0, dictionary={"num_observables": 3})
    evaluation.before(POLICY, load_tokenizer("tiny"), probe)
    assert measured.evaluated == []
    saved = KoopmanDictionary.load(measured.run.evaluations / "dictionary.safetensors")
    assert saved.num_observables == 3
    assert measured.given == [{"num_observables": 3}]
    usual = measurement_of(measured, before=False, num_observables=None)
    usual.before(POLICY, load_tokenizer("tiny"), build_objective("grpo"))
    assert measured.given[1] == {}


def test_a_measurement_without_a_dictionary_says_so_once(measured: SimpleNamespace) -> None:
    evaluation = measurement_of(measured, num_observables=119)
    evaluation.before(POLICY, load_tokenizer("tiny"), build_objective("grpo"))
    evaluation.after(POLICY, load_tokenizer("tiny"))
    assert [named["measured_by"] for named in measured.evaluated] == [None, None]
    assert len(measured.said) == 1
    assert measured.said[0].startswith("The evaluations have no dispersion: ")
    # A resumed run did not fit it, and does not find it.
    resumed = measurement_of(measured)
    resumed.after(POLICY, load_tokenizer("tiny"))
    assert measured.said[1].startswith("The evaluation after training has no dispersion: there is no ")
    assert measured.evaluated[2]["measured_by"] is None


def test_an_endless_task_is_asked_for_as_many_problems_as_are_read(
    measured: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    known = CountdownTask.problems

    def problems(self: Any, split: str, count: int | None = None, seed: int = 0) -> Any:
        asked.append((split, count))
        return known(self, split, 8 if count is None else count, seed)

    monkeypatch.setattr(CountdownTask, "problems", problems)
    for is_endless in (True, False):
        monkeypatch.setattr(CountdownTask, "is_endless", is_endless)
        measurement_of(measured, before=False).before(POLICY, load_tokenizer("tiny"), build_objective("grpo"))
    assert asked == [("train", 3), ("train", None)]
    assert [len(prompts) for prompts, *_ in measured.sampled] == [3, 3]


def test_a_start_is_known_by_the_problems_that_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the dictionary, and those of the evaluation before training if there is one."""

    def identity(model: Any, tokenizer: Any, task: Any, problems: Any, encode: Any, settings: Any) -> dict[str, Any]:
        return {"problems": [problem.id for problem in problems], **settings}

    monkeypatch.setattr(measurement, "identity_of", identity)
    for before in (True, False):
        settings = EvaluationConfig(before=before, num_problems=3, num_samples=2)
        evaluation = measurement.PolicyEvaluation(settings, CountdownTask(), RunDirectory(tmp_path), shared=tmp_path)
        found = evaluation._identity(None, None, 7)
        assert len(found["problems"]) == (35 if before else 32)
        assert (found["max_completion_length"], found["precision"], found["num_observables"]) == (256, "float32", 7)
        assert found["before"] is before
