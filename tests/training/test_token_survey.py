"""Methods that compare tokens compare those of the whole update, however it is cut."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import TOKEN_CHOICE
from relax_rl.training.inputs.providers import provider_of
from support.scripted import GROUP, make_trainer

METHODS = {
    "forking_tokens": {},
    "clip_cov": {"ratio": 0.1, "cov_low": 0.0},
    "kl_cov": {"k_ratio": 0.2, "coefficient": 5.0},
}


def trained(method, folder, micro_batches, **options):
    """The parameters after two updates of 16 completions; KL-Cov acts in the second, which reuses the rollouts."""
    settings = {"num_iterations": 2} if method == "kl_cov" else {}
    trainer = make_trainer(
        build_objective(method, **METHODS[method] | options),
        folder,
        per_device_train_batch_size=4 * GROUP // micro_batches,
        gradient_accumulation_steps=micro_batches,
        optim="sgd",
        learning_rate=0.5,
        max_grad_norm=0.0,
        **settings,
    )
    trainer.train()
    parameters = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    return parameters, [row["tokens/selected"] for row in trainer.state.log_history if "tokens/selected" in row]


@pytest.mark.parametrize("method", METHODS)
def test_the_cut_of_an_update_does_not_matter(method, tmp_path):
    whole, selected = trained(method, tmp_path / "1", 1)
    for micro_batches in (2, 4):
        cut, _ = trained(method, tmp_path / str(micro_batches), micro_batches)
        torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-4)
    alone, _ = trained(method, tmp_path / "alone", 4, scope="micro_batch")
    assert not torch.allclose(alone, whole, atol=1e-5, rtol=1e-4)
    assert selected[-1] > 0


def test_no_forward_is_spent_where_a_choice_would_have_no_effect(tmp_path, monkeypatch):
    trainer = make_trainer(build_objective("kl_cov"), tmp_path, max_steps=1)
    monkeypatch.setattr(type(trainer.objective), "survey", lambda *_: pytest.fail("surveyed"))
    trainer.train()
    assert trainer.state.log_history[0]["tokens/selected"] == 0.0


@pytest.mark.parametrize(("batches", "processes", "chooses"), [(1, 1, False), (1, 2, True), (2, 1, True), (2, 2, True)])
def test_a_single_micro_batch_on_a_single_process_chooses_for_itself(batches, processes, chooses):
    trainer: Any = SimpleNamespace(
        objective=build_objective("kl_cov"),
        accelerator=SimpleNamespace(num_processes=processes),
        completion_mask=lambda rows: rows["mask"],
    )
    rows: list[dict[str, Any]] = [{"mask": torch.ones(2, 3, dtype=torch.bool)} for _ in range(batches)]
    provider_of(TOKEN_CHOICE, trainer).before_update(rows)
    for row in rows:
        assert ("token_choice" in row) is chooses
        assert row.get("token_choice", torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
