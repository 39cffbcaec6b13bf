"""Where TRL has the method too: the same value and gradient, away from the policy that sampled."""

import pytest
import torch
from trl import GRPOTrainer

from relax_rl.objectives import build_objective
from relax_rl.training.trl import relax_config
from relax_rl.training.trl import trainer as trainer_module
from support.scripted import make_trainer

WHOLE = {"gradient_accumulation_steps": 1}
CASES = {
    "dr_grpo": (
        {"max_completion_length": 32},
        {"loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": 32},
    ),
    "dapo": ({}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    # Bounds inside the clip, so that they act on tokens that PPO leaves alone.
    "dapo delta": ({"delta": 1.1}, {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.1}),
    "gspo": (
        {},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    # TRL takes the bounds of PPO unless told otherwise; ours are GSPO's.
    "luspo": (
        {},
        {"loss_type": "luspo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "sapo": ({}, {"loss_type": "sapo"}),
    # A cap among the ratios that occur, so that it acts.
    "cispo": ({"ratio_max": 1.1}, {"loss_type": "cispo", "epsilon_high": 1.1}),
    "forking_tokens": (
        {"denominator": "all", "scope": "micro_batch"},
        {"loss_type": "dapo", "epsilon_high": 0.28, "top_entropy_quantile": 0.2},
    ),
    # One micro-batch: TRL averages the entropies of micro-batches, ours is the mean over the tokens of the update.
    "entropy_bonus": ({"coefficient": 0.3}, {"loss_type": "dapo", "entropy_coef": 0.3} | WHOLE),
    "simple_rl": ({"beta": 1e-4}, {"loss_type": "dapo", "entropy_coef": 1e-3} | WHOLE),
}


def gradient_of(trainer, loss):
    trainer.model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.fixture(autouse=True)
def trl_s_own_settings(monkeypatch):
    """TRL's loss takes TRL's settings: those that `RelaxConfig` refuses, because ours does not read them."""
    monkeypatch.setattr(relax_config, "REPLACED", {})

    def with_reference(args, reference_coefficient, *, evaluates):
        args.beta = reference_coefficient
        return args

    monkeypatch.setattr(trainer_module, "arguments_for", with_reference)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("method", CASES)
def test_our_loss_is_trls(method, beta, tmp_path):
    options, settings = CASES[method]
    method = method.partition(" ")[0]
    # The papers have a plain KL; TRL multiplies it by the importance ratio unless told not to.
    settings = settings | {"use_bias_correction_kl": False}
    trainer = make_trainer(build_objective(method, **{"beta": beta} | options), tmp_path, **settings)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    with torch.no_grad():
        forward, _ = trainer._forward(trainer.model, inputs)
    shape = inputs["completion_ids"].shape
    noise = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    inputs = inputs | {"old_per_token_logps": forward.log_probs[:, -shape[1] :] + noise}
    if beta:  # a reference that the policy has left, or the KL and its gradient are 0
        inputs["ref_per_token_logps"] = forward.log_probs[:, -shape[1] :] - noise.roll(1, 0)
    ours = trainer.compute_loss(trainer.model, inputs)
    our_gradient = gradient_of(trainer, ours)
    theirs = GRPOTrainer.compute_loss(trainer, trainer.model, inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(our_gradient, gradient_of(trainer, theirs), atol=1e-6, rtol=1e-5)
    assert our_gradient.abs().max() > 1e-5
