"""The state at a completion's answer, from the verifier's answer to the objective."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import DataError, RunError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import LATENT_KEYS
from relax_rl.rewards import CountdownVerifier, MathVerifier, VerifierReward
from relax_rl.rewards.turns import conversation_text
from relax_rl.training.inputs.answers import answer_span, answer_tokens
from relax_rl.training.inputs.latent_keys import UNIT_FILE
from relax_rl.training.models import load_tokenizer
from support.scripted import GROUP, make_trainer


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("1+2=3 yes<answer>1+2</answer>", "1+2", (17, 20)),
        (r"so \boxed{ 12}. The answer is 12.", "12", (11, 13)),
        (r"\boxed{1} no, \boxed{12}", "12", (21, 23)),
        (r"<answer>2+1</answer> \boxed{2+1}", "2+1", (8, 11)),
        ("it is 7, so 7", "7", (12, 13)),
        ("it is 7", "8", None),
        ("it is 7", "", None),
    ],
)
def test_where_an_answer_stands(text: str, answer: str, expected: tuple[int, int] | None) -> None:
    assert answer_span(text, answer) == expected


def test_which_tokens_bring_the_answer() -> None:
    tokenizer = load_tokenizer("tiny")
    ids = [*tokenizer.encode("1+2=3 yes<answer>1+2</answer>"), tokenizer.eos_token_id]
    first, last = answer_tokens(tokenizer, ids, "1+2") or (0, 0)
    assert tokenizer.decode(ids[first : last + 1]) == "1+2"
    assert tokenizer.decode([ids[first - 1]]) == "<answer>"
    # A character of two tokens before it.
    ids = tokenizer.encode(r"é\boxed{12}")
    first, last = answer_tokens(tokenizer, ids, "12") or (0, 0)
    assert tokenizer.decode(ids[first : last + 1]) == "12"
    assert answer_tokens(tokenizer, ids, None) is None
    assert answer_tokens(tokenizer, ids, "13") is None


@pytest.mark.parametrize("verifier", [CountdownVerifier(), MathVerifier()])
def test_a_verifier_tells_its_answers_also_where_no_completion_has_one(verifier: Any) -> None:
    told: dict[str, Any] = {}
    answer = "1 2>3" if verifier.name == "countdown" else "3"
    reward = VerifierReward(verifier)
    reward(completions=[r"\boxed{1+2}", "none"], answer=[answer] * 2, log_extra=told.__setitem__)
    assert told["answer_found"] == ["1+2", None]
    reward(completions=["none"], answer=[answer], log_extra=told.__setitem__)
    assert told["answer_found"] == [None]


def answered(completions: list[Any], log_extra: Any, **_: Any) -> list[float]:
    texts = [conversation_text(completion) for completion in completions]
    log_extra("answer_found", [None if index % GROUP == 3 else text[5:8] for index, text in enumerate(texts)])
    log_extra("mode", [str(index % GROUP // 2) for index in range(len(texts))])
    return [float(index % GROUP != 3) for index in range(len(texts))]


def trained(tmp_path: Path, reward: Any = answered, **options: Any) -> tuple[Any, list[Any]]:
    trainer = make_trainer(build_objective("latent_coverage", k=2, **options), tmp_path, max_steps=1, reward=reward)
    seen: list[Any] = []
    inner = trainer.rollout_batch
    trainer.rollout_batch = lambda *rows: seen.append((inner(*rows), *rows)) or seen[-1][0]
    trainer.train()
    return trainer, seen


def test_the_positions_are_the_states_before_the_answers_in_units_of_the_first_batch(tmp_path: Path) -> None:
    trainer, seen = trained(tmp_path)
    distances, unit = [], 0.0
    for batch, rows, forward in seen:
        positions = batch.extras[LATENT_KEYS]
        assert positions[:, 3].isnan().all()
        assert (rows["answer_place"].view(-1, GROUP)[:, :3] >= 4).all()
        width = rows["completion_ids"].shape[1]
        states = forward.hidden_states[:, -width - 1 : -1]
        own = states[torch.arange(len(states)), rows["answer_place"].clamp(min=0)].unflatten(0, (-1, GROUP))
        ratio = own[:, :3].detach() / positions[:, :3]
        unit = float(ratio.median())
        torch.testing.assert_close(positions[:, :3] * unit, own[:, :3].detach(), rtol=1e-4, atol=1e-5)
        distances += [float((a - b).norm()) for one in positions for i, a in enumerate(one[:3]) for b in one[:i]]
    assert float(torch.tensor(distances).median()) == pytest.approx(1, rel=0.1)
    (row,) = [row for row in trainer.state.log_history if "latent/solutions" in row]
    assert row["latent/key_defined"] == 0.75
    assert 1 <= row["latent/solutions"] <= 3  # of three right ones in each group
    assert math.isfinite(row["latent/modes_rand"])
    assert 0 <= row["latent/modes_auc"] <= 1
    trainer._providers[build_objective("latent_coverage").advantage.positions].save(tmp_path)
    assert json.loads((tmp_path / UNIT_FILE).read_text())["unit"] == pytest.approx(unit)


@pytest.mark.parametrize(
    "options", [{"source": "answer_end"}, {"source": "mean"}, {"source": "tokens"}, {"shuffled": True}]
)
def test_the_other_sources_and_the_control_train(options: dict[str, Any], tmp_path: Path) -> None:
    trainer, seen = trained(tmp_path, match_rms=True, **options)
    positions = torch.cat([batch.extras[LATENT_KEYS] for batch, *_ in seen])
    assert positions[:, :3].isfinite().all() or "shuffled" in options
    if options.get("source") in ("mean", "tokens"):
        assert positions.isfinite().all()
    if "shuffled" in options:
        assert positions.isnan().all(-1).sum(-1).tolist() == [1] * len(positions)
        assert not positions[:, 3].isnan().all()
    assert any(math.isfinite(row.get("loss", math.nan)) for row in trainer.state.log_history)


def test_micro_batches_that_break_groups_change_no_position(tmp_path: Path) -> None:
    seen = []
    for size in (2 * GROUP, GROUP // 2):
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 * GROUP // size}
        objective = build_objective("latent_coverage", k=2, shuffled=True)
        trainer = make_trainer(objective, tmp_path / str(size), max_steps=1, reward=answered, **settings)
        trainer.train()
        assert trainer._splits_groups == (size < GROUP)
        seen.append(next(row for row in trainer.state.log_history if "latent/solutions" in row))
    for name in ("grad_norm", "advantage/rms", "latent/solutions", "latent/modes_auc", "latent/modes_rand"):
        assert seen[0][name] == pytest.approx(seen[1][name], rel=1e-5)


def test_without_a_verifier_that_tells_answers_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set objective\.source to mean"):
        trained(tmp_path, reward=lambda completions, **_: [1.0] * len(completions))


def test_a_checkpoint_without_the_unit_is_refused(tmp_path: Path) -> None:
    trainer, _ = trained(tmp_path, source="mean")
    provider = trainer._providers[build_objective("latent_coverage").advantage.positions]
    with pytest.raises(RunError, match=f"holds no usable {UNIT_FILE}"):
        provider.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_a_run_by_the_command_line_resumes_with_its_unit(tmp_path: Path) -> None:
    words = "train countdown --objective.name latent_coverage --objective.k 2 --objective.beta 0.01"
    words += " --trainer.num_generations 4 --trainer.per_device_train_batch_size 8 --trainer.save_steps 1"
    words += " --trainer.gradient_accumulation_steps 1 --evaluation.enabled false --trainer.max_steps"
    run = tmp_path / "run"
    assert main([*words.split(), "2", "--output", str(run)]) == 0
    units = [json.loads(path.read_text())["unit"] for path in sorted(run.glob(f"checkpoints/*/{UNIT_FILE}"))]
    assert len(units) == 2
    assert units[0] == units[1] > 0
    assert main(["train", "--resume", "--output", str(run), "--trainer.max_steps", "3"]) == 0
    assert json.loads((run / "checkpoints/checkpoint-3" / UNIT_FILE).read_text())["unit"] == units[0]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("latent/modes_auc" in row for row in rows)
