"""Every method trains through TRL: two updates of one rollout batch, in two micro-batches."""

import math
from typing import Any

import pytest
import torch

from relax_rl.objectives import METHODS, build_objective
from relax_rl.objectives.inputs import MASKED_LOG_PROBS
from relax_rl.rewards.turns import conversation_text
from support.bank import write_bank
from support.images import SquareTask, image_text_model
from support.scripted import make_trainer

BANK = "bank"
DICTIONARY = {"xi": "quantile:0.5", "dictionary": {"num_observables": 8, "steps": 3}}
OPTIONS = {
    "relax": DICTIONARY,
    "relax_as_run": DICTIONARY,
    "rank_shaping": {"stride": 4},
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2},
    "coverage": {"k": 2},
    "latent_coverage": {"k": 2},
    "poly_epo": {"n": 2},
    **{method: {"bank": BANK} for method in ("dph_rl", "recoverability_floor", "latent_anchor")},
    "spectral_diversity": DICTIONARY,
    "state_volume": DICTIONARY,
    "spectral_novelty": DICTIONARY,
}


def one_in_four(completions, log_extra, **_):
    log_extra("mode", [f"solution {index % 3}" for index in range(len(completions))])
    log_extra("answer_found", [conversation_text(one)[5:8] for one in completions])
    return [float(index % 4 == 1) for index in range(len(completions))]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bank(tmp_path / BANK)
    monkeypatch.setattr("support.scripted.parity_reward", one_in_four)
    objective = build_objective(method, **OPTIONS.get(method, {}))
    given: dict[str, Any] = {"num_iterations": 1 if method == "opefo" else 2}
    if MASKED_LOG_PROBS in objective.inputs:
        model, processor = image_text_model()
        given |= {"model": model, "processor": processor, "task": SquareTask()}
    trainer = make_trainer(objective, tmp_path, **given)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in rows)
    assert rows[0]["grad_norm"] > 0  # in the second update GSPO has clipped every completion
