"""The whole evaluation of a random policy, each number against a slow computation of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from relax_rl.errors import DataError
from relax_rl.evaluation import EvaluationResult, evaluate, pass_at_k
from relax_rl.evaluation import replay as replay_module
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.runner import Evaluation
from relax_rl.evaluation.samplers.protocol import SamplingSettings
from relax_rl.evaluation.samplers.transformers import TransformersSampler, sample_completions
from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion
from relax_rl.tasks.countdown import CountdownTask

SETTINGS: dict[str, Any] = {
    "num_problems": 6,
    "num_samples": 8,
    "max_completion_length": 24,
    "seed": 5,
    "temperature": 0.8,
}


@pytest.fixture(scope="module")
def dictionary() -> KoopmanDictionary:
    return KoopmanDictionary(torch.randn(16, 4, generator=torch.Generator().manual_seed(2)))


def test_every_number_equals_a_computation_sample_by_sample(model, tokenizer, task, dictionary) -> None:
    result = evaluate(model, tokenizer, task, dictionary=dictionary, **SETTINGS)
    problems = task.problems("test", 6)
    prompts = [encode_prompt(tokenizer, p) for p in problems]
    rows = sample_completions(
        model, tokenizer, prompts, 8, max_completion_length=24, temperature=0.8, seed=5, keys=[p.id for p in problems]
    )
    correct = [sum(p.answer in c.text for c in row) for p, row in zip(problems, rows, strict=True)]
    entropies, dsd, trajectories = [], [], []
    for prompt, row in zip(prompts, rows, strict=True):
        for completion in row:
            with torch.no_grad():
                output = model(torch.tensor([[*prompt, *completion.token_ids]]), output_hidden_states=True)
            logits = output.logits[0, len(prompt) - 1 : -1].double() / 0.8
            entropies.extend(torch.distributions.Categorical(logits=logits).entropy().tolist())
            states = output.hidden_states[-1][:, len(prompt) :]
            trajectories.append(states[0])
            one = dynamic_spectral_dispersion(states, torch.ones(states.shape[:2], dtype=torch.bool), dictionary)
            dsd.append(float(one.values[0]) if one.is_defined[0] else np.nan)
    metrics = {name: estimate.value for name, estimate in result.metrics.items()}
    lengths = [c.num_tokens for row in rows for c in row]
    assert metrics["mean@1"] == pytest.approx(sum(correct) / 48)
    for k in (2, 4, 8):
        assert metrics[f"pass@{k}"] == pytest.approx(np.mean([pass_at_k(8, c, k) for c in correct]))
    assert metrics["entropy"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert metrics["dsd"] == pytest.approx(
        np.mean([np.nanmean(row) for row in np.reshape(dsd, (6, 8)) if not np.isnan(row).all()]), rel=1e-3
    )
    assert metrics["dsd_defined"] == pytest.approx(np.mean(~np.isnan(dsd)))
    assert metrics["length"] == pytest.approx(np.mean(lengths))
    assert metrics["truncated"] == pytest.approx(np.mean([c.is_truncated for row in rows for c in row]))
    assert metrics["not_scored"] == 0.0
    assert "maj@8" in metrics
    assert [p.num_correct for p in result.per_problem] == correct

    x = torch.cat([dictionary(t)[:-1] for t in trajectories]).double().numpy()
    y = torch.cat([dictionary(t)[1:] for t in trajectories]).double().numpy()
    expected = np.linalg.eigvals(np.linalg.pinv(x) @ y)
    assert result.spectrum is not None
    found = np.array([complex(*value) for value in result.spectrum.eigenvalues])
    assert np.abs(found[:, None] - expected[None, :]).min(axis=1).max() < 1e-4
    assert result.spectrum.dictionary_digest == dictionary.digest
    assert result.dsd_estimator == "paper"
    values, vectors = np.linalg.eig(np.linalg.pinv(x) @ y)
    residuals = np.linalg.norm(y @ vectors - x @ vectors * values, axis=0) / np.linalg.norm(x @ vectors, axis=0)
    largest_first = np.argsort(-np.abs(values))
    assert np.abs(found) == pytest.approx(np.abs(values)[largest_first], rel=1e-4)
    assert result.spectrum.residuals == pytest.approx(residuals[largest_first], rel=1e-3)
    assert result.spectrum.num_observables == 4


def test_an_evaluation_goes_on_in_its_folder_and_begins_anew_only_where_asked(model, tokenizer, task, tmp_path) -> None:
    settings: dict[str, Any] = SETTINGS | {
        "num_samples": 3,
        "batch_size": 9,
        "folder": EvaluationFolder(tmp_path / "e"),
    }
    told: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        told.append((done, total))

    first = evaluate(model, tokenizer, task, on_progress=note, **settings)
    assert told == [(9, 18), (18, 18)]
    assert evaluate(model, tokenizer, task, on_progress=note, **settings) == first
    assert len(told) == 2
    assert evaluate(model, tokenizer, task, on_progress=note, overwrite=True, **settings) == first
    assert len(told) == 4


def test_what_is_known_before_anything_is_sampled(model, tokenizer, task) -> None:
    settings = SamplingSettings(4, 7, temperature=0.5, top_p=0.9, seed=3)
    expected = Evaluation(TransformersSampler(model, tokenizer), task, settings, num_problems=2, name="it").expected()
    result = evaluate(
        model,
        tokenizer,
        task,
        num_problems=2,
        num_samples=4,
        max_completion_length=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        name="it",
    )
    assert replace(result, metrics={}, pass_at_k=(), per_problem=(), samples=()) == replace(
        expected, metrics={}, pass_at_k=(), per_problem=(), samples=()
    )
    assert [problem.id for problem in expected.per_problem] == [problem.id for problem in result.per_problem]
    assert [(sample.problem_id, sample.prompt, sample.completion) for sample in expected.samples] == [
        (sample.problem_id, sample.prompt, "") for sample in result.samples[:2]
    ]
    twice = replace(task)
    object.__setattr__(twice, "problems", lambda *_: task.problems("test", 1) * 2)
    with pytest.raises(DataError, match="two problems of the same id"):
        evaluate(model, tokenizer, twice, **SETTINGS)


def test_what_could_not_be_scored_is_not_wrong(model, tokenizer, task) -> None:
    strict = replace(task, verifier=replace(task.verifier, unscorable="c"))
    plain = evaluate(model, tokenizer, task, **SETTINGS)
    result = evaluate(model, tokenizer, strict, **SETTINGS)
    share = result.metrics["not_scored"].value
    assert 0.0 < share < 1.0
    num_scored = [p.num_scored for p in result.per_problem]
    assert sum(num_scored) == round(48 * (1 - share))
    shares = [p.num_correct / p.num_scored for p in result.per_problem if p.num_scored]
    assert result.metrics["mean@1"].value == pytest.approx(np.mean(shares))
    assert result.metrics["length"] == plain.metrics["length"]
    if "pass@8" in result.metrics:
        assert result.metrics["pass@8"].num_problems == sum(n == 8 for n in num_scored)


def test_settings_are_in_the_result_and_json_brings_it_back(model, tokenizer, task, dictionary, tmp_path) -> None:
    result = evaluate(model, tokenizer, task, dictionary=dictionary, **SETTINGS)
    path = result.save(tmp_path / "evaluations" / "after.json")
    assert EvaluationResult.load(path) == result
    data = json.loads(path.read_text())
    assert {key: data[key] for key in ("task", "split", "temperature", "top_p", "max_completion_length", "seed")} == {
        "task": "letters",
        "split": "test",
        "temperature": 0.8,
        "top_p": 1.0,
        "max_completion_length": 24,
        "seed": 5,
    }
    assert set(data["metrics"]["mean@1"]) == {"value", "low", "high", "num_problems"}
    assert len(data["samples"]) == 20
    assert len({sample["problem_id"] for sample in data["samples"]}) == 6
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"after\.json"):
        EvaluationResult.load(path)
    with pytest.raises(DataError, match="'task'"):
        EvaluationResult.from_json("{}")


def test_without_a_dictionary_there_is_no_dsd_and_no_spectrum(model, tokenizer, task) -> None:
    result = evaluate(model, tokenizer, task, **SETTINGS)
    assert result.spectrum is None
    assert result.dsd_estimator is None
    assert not {"dsd", "dsd_defined"} & set(result.metrics)


def test_replay_in_small_batches_changes_nothing(model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[2, 3], [4], [5, 6, 7, 8]]
    completions = [[3, 4, 5, 1], [6, 7], [8]]

    def gather() -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        found = {}
        for batch in replay(model, prompts, completions):
            for position, row in enumerate(batch.rows):
                length = int(batch.mask[position].sum())
                found[row] = batch.entropy[position, :length], batch.hidden_states[position, :length]
        return found

    whole = gather()
    monkeypatch.setattr(replay_module, "_TOKENS_PER_BATCH", 1)
    single = gather()
    assert set(whole) == set(single) == {0, 1, 2}
    for row in whole:
        assert len(whole[row][0]) == len(completions[row])
        torch.testing.assert_close(whole[row], single[row])


def test_an_empty_task_and_a_verifier_that_loses_scores_are_refused(model, tokenizer, task) -> None:
    with pytest.raises(DataError, match="no problem"):
        evaluate(model, tokenizer, task, split="empty")

    class Lossy:
        name = "lossy"

        def score(self, completions, answers):
            return [1.0]

    with pytest.raises(DataError, match="returned 1 values for 48 completions"):
        evaluate(model, tokenizer, replace(task, verifier=Lossy()), **SETTINGS)


def test_the_embedded_policy_is_evaluated_as_generate_would() -> None:
    folder = resources.files("relax_rl").joinpath("assets", "tiny")
    policy, words = AutoModelForCausalLM.from_pretrained(str(folder)), AutoTokenizer.from_pretrained(str(folder))
    countdown = CountdownTask()
    result = evaluate(
        policy, words, countdown, num_problems=6, num_samples=1, max_completion_length=96, temperature=0.0, batch_size=4
    )
    for problem, sample in zip(countdown.problems("test", 6), result.samples, strict=True):
        ids = words(problem.prompt, return_tensors="pt")
        reference = policy.generate(**ids, do_sample=False, max_new_tokens=96)
        text = words.decode(reference[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert sample.completion == text
        assert sample.score == countdown.verifier.score([text], [problem.answer])[0]


def test_metrics_load_without_torch() -> None:
    code = "import sys; from relax_rl.evaluation import pass_at_k, EvaluationResult; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_entropy_met_while_decoding_is_that_of_the_replay(
    model, tokenizer, task, dictionary, temperature: float
) -> None:
    settings = SETTINGS | {"temperature": temperature, "num_samples": 3}
    met = evaluate(model, tokenizer, task, **settings)
    replayed = evaluate(model, tokenizer, task, dictionary=dictionary, **settings)
    assert [row.entropy for row in met.per_problem] == pytest.approx([row.entropy for row in replayed.per_problem])
    one_token: dict[str, Any] = settings | {"max_completion_length": 1}
    nucleus = evaluate(model, tokenizer, task, top_p=0.5, **one_token)
    whole = evaluate(model, tokenizer, task, **one_token)
    assert nucleus.metrics["entropy"].value == pytest.approx(whole.metrics["entropy"].value)  # of the whole vocabulary
