"""Methods that weigh tokens by phrase, covariance, entropy or difficulty, and those that match a distribution."""

import math
from dataclasses import replace

import pytest
import torch

from objectives.batches import A, input_names, random_batch, two_completions, with_inputs
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import LOG_PARTITION, OLD_ENTROPY
from relax_rl.objectives.methods.cw_grpo import CovarianceKernel
from relax_rl.training.inputs.vocabulary import entropy_flow


def gradient_of(objective, batch):
    return torch.autograd.grad(objective(batch).loss, batch.log_probs)[0].flatten().tolist()


def with_(batch, **tensors):
    as_tensor = {name: torch.tensor([value]) for name, value in tensors.items()}
    return with_inputs(batch, **{k: v if v.dtype == torch.bool else v.double() for k, v in as_tensor.items()})


def recorded_batch():
    """The batch that the numbers of other people's code below were recorded on."""
    batch = random_batch(seed=3, prompts=4, tokens=40, spread=0.6)
    lengths = torch.tensor([[40, 31, 9, 25], [12, 40, 18, 33], [28, 10, 40, 17], [22, 35, 14, 40]])
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.float64)
    old_entropy = batch.entropy.detach() * (1 + 0.08 * (batch.extras[OLD_ENTROPY] - 1))
    batch = replace(batch, mask=torch.arange(40) < lengths.unsqueeze(-1), rewards=rewards)
    return with_inputs(batch, old_entropy=old_entropy)


# What was there on this batch: value, and sum of the sizes of the gradient. HTPO and ERC are the authors' functions
# (xcyao00/HTPO cfbbea7, Kwai-Klear/ERC) with clip 0.2 / 0.28 and dual clip 10, run in a process of their own; DMPO and
# FlowRL are the formulas of verl's recipes written down in numpy.
RECORDED = {
    "htpo": (0.2064324585372833, 0.7063873133937142),
    "erc": (0.13847419521692703, 0.4188501928416128),
    "flow_rl": (325.20875276590937, None),
}


@pytest.mark.parametrize("method", RECORDED)
def test_value_and_gradient_are_the_recorded_ones(method):
    batch = recorded_batch()
    loss = build_objective(method)(batch).loss
    value, size = RECORDED[method]
    assert loss.item() == pytest.approx(value, rel=1e-9)
    if size is not None:
        assert torch.autograd.grad(loss, batch.log_probs)[0].abs().sum().item() == pytest.approx(size, rel=1e-9)


@pytest.mark.parametrize(("divergence", "expected"), [("mse", 0.07306947831661888), ("js", 0.1956920083840432)])
def test_dmpo_is_the_recorded_one(divergence, expected):
    batch = recorded_batch()
    with_term, without = (build_objective("dmpo", coefficient=c, divergence=divergence)(batch).loss for c in (1.0, 0.0))
    assert (with_term - without).item() == pytest.approx(expected, rel=1e-6)


def test_hicra_by_hand():
    planning = [[True, False], [True, False]]
    batch = with_(two_completions([[1.0, 1.1], [1.0, 0.9]]), planning_mask=planning)
    objective = build_objective("hicra")
    # Advantages +-1/2 without std; planning: 0.6 and -0.4.
    assert objective(batch).loss.item() == pytest.approx(-(0.6 + 0.55 - 0.4 - 0.45) / 4, rel=1e-12)
    assert objective(batch).metrics["tokens/selected"] == 0.5
    assert input_names(objective) == {"planning_mask"}
    with pytest.raises(DataError, match=r"extras\[PLANNING_MASK\]"):
        objective(two_completions([[1.0], [1.0]]))
    with pytest.raises(ConfigError, match="grams"):
        build_objective("hicra", grams=["  "])
    with pytest.raises(ConfigError, match="must be a list"):
        build_objective("hicra", grams="let us see")


def test_the_kernel_of_cw_grpo_by_hand():
    columns = torch.tensor([[-1.0, 1.0], [-3.0, 1.0], [-2.0, -1.0], [-6.0, -1.0]], dtype=torch.float64)
    # Means -3 and 0: covariances 2, 0, -1, 3; mean 1, variance (1 + 1 + 4 + 4) / 4 = 5/2.
    raw = [math.exp(-c * c / 5) for c in (2, 0, 1, 3)]
    expected = [4 * w / sum(raw) for w in raw]
    assert CovarianceKernel().weights(columns).tolist() == pytest.approx(expected, rel=1e-12)
    assert CovarianceKernel().weights(torch.ones(3, 2)).tolist() == [1.0, 1.0, 1.0]


def test_cw_grpo_keeps_the_budget_of_each_group_and_only_its_own_tokens():
    batch = random_batch(prompts=2)
    objective = build_objective("cw_grpo")
    advantages = objective.advantage(batch)
    ones = torch.ones_like(advantages)
    weights, metrics = objective.token_weights(batch, advantages)
    alone, _ = objective.token_weights(
        replace(batch, mask=batch.mask & torch.tensor([True, False])[:, None, None]), advantages
    )
    assert torch.equal(alone[0], weights[0])
    plain, _ = CovarianceKernel()(batch, ones)
    assert plain[batch.mask].mean().item() == pytest.approx(1.0)  # no spread of advantages: no covariance
    assert 0 < metrics["tokens/effective_share"] < 1


def test_htpo_turns_the_gradient_around_outside_the_bounds():
    # One of two right: 0.5 < 0.6, a hard prompt. Ten tokens a completion, the first two of high entropy.
    entropy = [[9.0, 8.0] + 8 * [1.0]] * 2
    ratio = [[1.5, 0.5] + 8 * [1.0], [1.5, 0.5] + 8 * [1.0]]
    batch = two_completions(ratio, entropy=entropy)
    objective = build_objective("htpo")
    slopes = gradient_of(objective, batch)
    # Right: +1.28 A and +A / 0.5 (its ratio's inverse); wrong: -r A = +1.5 A, and +0.8 (-A).
    assert slopes[:2] == pytest.approx([1.28 * A / 20, 2 * A / 20])
    assert slopes[10:12] == pytest.approx([1.5 * A / 20, -0.8 * A / 20])
    easy = gradient_of(build_objective("htpo", hard_below=0.5), batch)
    # Easy: the right one is PPO's, without the highest entropy: its first token. 0.5 is not clipped with A > 0.
    assert easy[:2] == pytest.approx([0.0, -0.5 * A / 20])
    assert easy[10:12] == pytest.approx(slopes[10:12])
    with pytest.raises(ConfigError, match="hard_below"):
        build_objective("htpo", hard_below=1.5)


def test_erc_takes_the_gradient_and_leaves_the_loss():
    batch = two_completions([[1.0, 1.1], [1.0, 0.9]], entropy=[[1.0, 1.0], [1.0, 2.0]])
    batch = with_(batch, old_entropy=[[1.0, 1.06], [0.94, 2.0]])
    objective = build_objective("erc")
    # Ratios 1, 0.943, 1.064, 1: the second and third are outside (0.95, 1.05).
    assert gradient_of(objective, batch) == pytest.approx([-A / 4, 0.0, 0.0, 0.9 * A / 4])
    assert objective(batch).loss.item() == pytest.approx(build_objective("dapo")(batch).loss.item(), rel=1e-12)
    assert objective(batch).metrics["clip_ratio/entropy"] == 0.5
    assert objective(with_(batch, old_entropy=[[1.0, 1.06], [1.0, 2.0]])).metrics["clip_ratio/entropy"] == 0.25
    assert input_names(objective) == {"entropy", "old_entropy"}


@pytest.mark.parametrize("token", [0, 1, 4])
def test_entropy_flow_is_the_change_that_a_step_makes(token):
    logits = torch.tensor([2.0, -1.0, 0.3, 0.0, 1.1], dtype=torch.float64)
    step = 1e-6 * (torch.nn.functional.one_hot(torch.tensor(token), 5) - logits.softmax(0))

    def entropy(z):
        return -(z.softmax(0) * z.log_softmax(0)).sum().item()

    measured = (entropy(logits + step) - entropy(logits - step)) / 2e-6
    assert entropy_flow(logits, torch.tensor(token)).item() == pytest.approx(-measured, rel=1e-6)


def test_entropy_flow_of_an_impossible_token_is_finite():
    logits = torch.tensor([[0.0, -math.inf, 1.0], [0.0, -math.inf, -math.inf]])
    found = entropy_flow(logits, torch.tensor([0, 0]))
    assert found.isfinite().all()
    assert found[1].item() == 0.0


def test_opefo_brings_rise_and_fall_into_balance():
    flow = [[0.6, -0.1], [0.2, -0.1]]
    batch = with_(two_completions([[1.0, 1.0], [1.0, 1.0]]), entropy_flow=flow)
    objective = build_objective("opefo")
    # -A E: -0.6, +0.1, +0.2, -0.1 in units of A. Rises 0.3, falls 0.7: lambda = 0.4.
    weights = [0.6, 1.4, 1.4, 0.6]
    assert gradient_of(objective, batch) == pytest.approx(
        [-A / 4 * w * s for w, s in zip(weights, (1, 1, -1, -1), strict=True)]
    )
    assert objective(batch).metrics["entropy/flow_up"] == pytest.approx(0.3 * A / 4)
    none = with_(batch, entropy_flow=[[0.0, 0.0], [0.0, 0.0]])
    assert gradient_of(objective, none) == pytest.approx([-A / 4, -A / 4, A / 4, A / 4])


def test_dmpo_by_hand():
    batch = two_completions([[1.0, 1.0], [1.0, 1.0]], old=[[-1.0, -3.0], [-1.0, -1.0]])
    objective = build_objective("dmpo", coefficient=0.5, temperature=2.0)
    a = 0.5 / (math.sqrt(0.5) + 1e-6)
    target = 1 / (1 + math.exp(-2 * a / 2.0))
    policy = 1 / (1 + math.exp(1.0))  # mean log-probabilities -2 and -1
    expected = build_objective("grpo", epsilon=1e-6)(batch).loss.item() + 0.5 * (target - policy) ** 2
    assert objective(batch).loss.item() == pytest.approx(expected, rel=1e-9)
    assert objective(batch).metrics["group/total_variation"] == pytest.approx(target - policy)
    flat = replace(batch, rewards=torch.ones(1, 2))
    assert build_objective("dmpo")(flat).loss.item() > 0.01
    assert build_objective("dmpo", skip_flat=True)(flat).loss.item() == 0.0
    with pytest.raises(ConfigError, match="but is 'kl'"):
        build_objective("dmpo", divergence="kl")


def test_flow_rl_by_hand_and_its_minimum():
    batch = two_completions([[1.0, 1.0], [1.1, 1.0]], old=[[-1.0, -3.0], [-1.0, -1.0]])
    batch = with_(batch, ref_log_probs=[[-1.0, -2.0], [-1.0, -1.0]], log_partition=0.0)
    batch = with_inputs(batch, log_partition=torch.tensor([0.3], dtype=torch.float64, requires_grad=True))
    objective = build_objective("flow_rl", tilt=2.0)
    a = 0.5 / (math.sqrt(0.5) + 1e-6)
    first, second = 0.3 - 2.0 - 2 * a + 1.5, 0.3 + (-1 + math.log(1.1) - 1) / 2 + 2 * a + 1.0
    out = objective(batch)
    assert out.loss.item() == pytest.approx((first**2 + 1.1 * second**2) / 2, rel=1e-9)
    slope = torch.autograd.grad(out.loss, batch.extras[LOG_PARTITION])[0].item()
    assert slope == pytest.approx(first + 1.1 * second, rel=1e-9)
    assert input_names(objective) == {"ref_log_probs", "log_partition"}
    assert objective.reference_coefficient == 1.0
    # The reference tilted by the reward, and its log Z, is a minimum with value 0.
    tilted = batch.ref_log_probs + 2.0 * torch.tensor([[[a], [-a]]]) - 0.3
    best = replace(batch, log_probs=tilted.requires_grad_(), old_log_probs=tilted.detach())
    assert objective(best).loss.item() == pytest.approx(0.0, abs=1e-12)
