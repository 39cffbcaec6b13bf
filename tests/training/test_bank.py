"""A bank of correct traces: what is refused before a run, and what it gives the objective."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError, RunError
from relax_rl.evaluation.folder import EvaluationFolder
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import BANK_TERM
from relax_rl.training.bank import read_bank
from relax_rl.training.inputs.bank_term import BANK_FILE
from relax_rl.training.models import load_tokenizer
from support.bank import write_bank
from support.scripted import GROUP, make_trainer


def refused(capsys: pytest.CaptureFixture[str], run: Path, *words: str) -> str:
    assert main(["train", "countdown", "--objective.name", "latent_anchor", *words, "-o", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not run.exists()
    return error


def test_a_bank_that_is_missing_or_of_another_task_or_held_out_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert "needs a bank of correct traces of the start policy: make one by `relax eval" in refused(capsys, run)
    assert "which is no folder" in refused(capsys, run, "--objective.bank", str(tmp_path / "none"))
    other = write_bank(tmp_path / "other", task="many_solutions")
    error = refused(capsys, run, "--objective.bank", str(other))
    assert "is of the task 'many_solutions', but the run trains on 'countdown'" in error
    held_out = write_bank(tmp_path / "held_out", split="test")
    assert "would be trained on held-out problems" in refused(capsys, run, "--objective.bank", str(held_out))
    (tmp_path / "empty").mkdir()
    assert "is no folder of an evaluation" in refused(capsys, run, "--objective.bank", str(tmp_path / "empty"))


def test_the_right_samples_are_read_and_nothing_else(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("tiny")
    folder = write_bank(tmp_path / "bank", 3)
    traces = read_bank(str(folder), tokenizer)
    assert len(traces) == 3
    samples = EvaluationFolder(folder).read_samples()
    assert [trace.completion for trace in traces] == [sample.token_ids for sample in samples if sample.score]
    assert tokenizer.decode(list(traces[0].prompt)) == samples[0].answer + ":"
    wrong = [sample for sample in samples if not sample.score]
    with pytest.raises(DataError, match="has no right sample"):
        read_bank(str(write_bank(tmp_path / "wrong", 3, samples=wrong)), tokenizer)
    with pytest.raises(DataError, match="are not those that this model reads"):
        read_bank(str(write_bank(tmp_path / "asked", 3, prompt_digest="0")), tokenizer)
    with pytest.raises(ConfigError, match="is of the task 'own:Task'; a bank is read for the tasks of the package"):
        read_bank(str(write_bank(tmp_path / "own", 3, task="own:Task")), tokenizer)


def trained(tmp_path: Path, method: str, **settings: Any) -> tuple[Any, list[Any]]:
    bank = tmp_path / "bank"
    objective = build_objective(method, bank=str(bank if bank.is_dir() else write_bank(bank)))
    trainer = make_trainer(objective, tmp_path / "out", **settings)
    seen: list[Any] = []
    provider = trainer._providers[BANK_TERM]
    inner = provider.tensor
    provider.tensor = lambda micro: seen.append(inner(micro)) or seen[-1]
    trainer.train()
    return trainer, seen


@pytest.mark.parametrize("method", ["dph_rl", "recoverability_floor", "latent_anchor"])
def test_the_start_policy_is_at_its_own_bank_and_a_trained_one_has_left_it(method: str, tmp_path: Path) -> None:
    trainer, seen = trained(tmp_path, method, max_steps=2)
    first, later = torch.cat(seen[:2]).detach(), torch.cat(seen[2:]).detach()
    assert len(seen) == 4
    assert len(first) == len(later) == 4
    assert first.abs().max() < 1e-5
    assert later.abs().min() > 1e-4
    assert all(one.requires_grad for one in seen)
    provider = trainer._providers[BANK_TERM]
    provider.save(tmp_path)
    kept = provider._start
    provider.load(tmp_path)
    assert all(torch.equal(provider._start[name], value) for name, value in kept.items())
    with pytest.raises(RunError, match=f"holds no usable {BANK_FILE}"):
        provider.load(tmp_path / "nowhere")


def test_the_log_ratio_is_of_the_trace_under_both_policies(tmp_path: Path) -> None:
    trainer, _ = trained(tmp_path, "recoverability_floor", max_steps=1)
    provider = trainer._providers[BANK_TERM]
    (term,) = provider._terms([2]).tolist()
    trace = provider._traces[2]
    ids = torch.tensor([[*trace.prompt, *trace.completion]])
    with torch.no_grad():
        found = trainer.policy(input_ids=ids).logits[0].double().log_softmax(-1)
    own = sum(float(found[place - 1, ids[0, place]]) for place in range(len(trace.prompt), ids.shape[1]))
    assert term == pytest.approx(own - float(provider._start["log_probs"][2].double().sum()), abs=1e-4)


@pytest.mark.slow
def test_micro_batches_that_break_groups_have_the_same_update(tmp_path: Path) -> None:
    seen = []
    for size in (2 * GROUP, GROUP // 2):
        settings: dict[str, Any] = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": 4 * GROUP // size,
        }
        # Adam makes a whole step of a rounding difference.
        settings |= {"optim": "sgd", "learning_rate": 1.0}
        trainer, _ = trained(tmp_path, "latent_anchor", max_steps=2, **settings)
        seen.append([row for row in trainer.state.log_history if "anchor/violation" in row])
    for one, other in zip(*seen, strict=True):
        for name in ("grad_norm", "anchor/violation"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6)
    assert abs(seen[0][1]["anchor/violation"]) > 1e-4


@pytest.mark.slow
def test_a_run_by_the_command_line_resumes(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    words = f"train countdown --objective.name latent_coverage --objective.k 2 --objective.bank {bank}"
    words += " --trainer.num_generations 4 --trainer.per_device_train_batch_size 8 --trainer.save_steps 1"
    words += " --trainer.gradient_accumulation_steps 1 --evaluation.enabled false --trainer.max_steps 1"
    run = tmp_path / "run"
    assert main([*words.split(), "--output", str(run)]) == 0
    assert main(["train", "--resume", "--output", str(run), "--trainer.max_steps", "2"]) == 0
    assert (run / "checkpoints/checkpoint-2" / BANK_FILE).is_file()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, second = [row for row in rows if "anchor/violation" in row]
    # Measured by the start policy and not again by the one that was resumed.
    assert abs(first["anchor/violation"]) < 1e-5 < abs(second["anchor/violation"])
