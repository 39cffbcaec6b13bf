"""Parts of the trainer by themselves: what they compute, where their limits are, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from relax_rl.config import TrainConfig
from relax_rl.config.settings import SamplingConfig
from relax_rl.errors import ConfigError, DataError, ModelError, RunError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import PROMPT_KEYS
from relax_rl.tasks.base import Problem
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.inputs import vocabulary
from relax_rl.training.inputs.partition import KeyedDropout, PartitionHead
from relax_rl.training.inputs.planning import planning_mask
from relax_rl.training.inputs.prompt_keys import prompt_key
from relax_rl.training.inputs.provider import MicroBatch
from relax_rl.training.inputs.providers import provider_of
from relax_rl.training.inputs.vocabulary import entropy_flow, vocabulary_statistics
from relax_rl.training.objective import build_objective_from, idle_parts, objective_for
from relax_rl.training.objective_state import DICTIONARY_FILE, STATE_FILE, restore_objective, save_objective
from relax_rl.training.trl.architectures import of_one_length
from relax_rl.training.trl.branching import Branching, branching_from
from relax_rl.training.trl.dataset import dataset_digest, prompt_dataset
from relax_rl.training.trl.rank_state import load_rank_state, save_rank_state
from relax_rl.training.trl.refill import DynamicSampling, Rollout, _replace, is_informative
from relax_rl.training.trl.relax_config import RelaxConfig, arguments_for
from relax_rl.training.trl.reward_functions import OwnReward, own_rewards, try_rewards
from relax_rl.training.trl.sampler import PromptSampler
from support.images import square

# The vocabulary ---------------------------------------------------------------------------------------------------


@dataclass
class HeadOnly:
    """A model that is nothing but its head."""

    head: Any

    def get_output_embeddings(self) -> Any:
        return self.head


def statistics(head: nn.Module, mask: list[list[bool]], **more: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Of random states and tokens, with the logits that they come from."""
    torch.manual_seed(1)
    states, tokens = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [3, 4, 0]])
    logits = head(states).detach() / 0.5
    log_probs = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    keep = torch.tensor(mask)
    # Outside the mask nothing is compared.
    found = vocabulary_statistics(HeadOnly(head), states, tokens, keep, log_probs.where(keep, -99.0), 0.5, **more)
    expected = entropy_flow(logits, tokens).where(keep, 0.0)
    return found, expected


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_the_statistics_are_those_of_the_heads_logits_bias_included(
    bias: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", at_once)
    torch.manual_seed(0)
    head = nn.Linear(4, 5, bias=bias)
    found, expected = statistics(head, [[True, True, False], [True, False, True]])
    torch.testing.assert_close(found["entropy_flow"], expected)
    weight = head.weight.detach()
    torch.manual_seed(1)
    states = torch.randn(2, 3, 4)
    one = [
        weight[token] - (head(states[1, place]).detach() / 0.5).softmax(-1) @ weight
        for place, token in ((0, 3), (2, 0))
    ]
    torch.testing.assert_close(found["score_features"][1], sum(one) / 2)


def test_a_completion_without_tokens_has_features_of_zero() -> None:
    torch.manual_seed(0)
    found, _ = statistics(nn.Linear(4, 5), [[False] * 3, [True] * 3])
    assert found["score_features"][0].tolist() == [0.0] * 4
    assert found["entropy_flow"][0].tolist() == [0.0] * 3


def test_an_entropy_flow_where_a_token_is_impossible() -> None:
    logits = torch.tensor([0.3, -0.2, -math.inf], dtype=torch.float64)
    found = entropy_flow(logits.expand(2, 3), torch.tensor([0, 1]))
    torch.testing.assert_close(found, entropy_flow(logits[:2].expand(2, 2), torch.tensor([0, 1])))
    assert entropy_flow(logits, torch.tensor(2)).isfinite()


@pytest.mark.parametrize(
    ("off", "dtype", "half", "is_refused"),
    [
        (0.0005, torch.float32, False, False),
        (0.002, torch.float32, False, True),
        (0.1, torch.float32, True, False),
        (0.1, torch.bfloat16, False, False),
        (0.3, torch.float32, True, True),
        (math.nan, torch.float32, False, False),
    ],
)
def test_how_far_the_log_probabilities_may_be_off(off: float, dtype: Any, half: bool, is_refused: bool) -> None:
    head = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(head.weight)
    states, tokens = torch.zeros(1, 3, 2, dtype=dtype), torch.zeros(1, 3, dtype=torch.long)
    for sign in (1, -1):
        log_probs = torch.full((1, 3), math.log(0.5) + sign * off)
        arguments = (HeadOnly(head), states, tokens, tokens == 0, log_probs, 1.0)
        if is_refused:
            with pytest.raises(ModelError, match="a cap or a scale"):
                vocabulary_statistics(*arguments, is_half_precision=half)
        else:
            vocabulary_statistics(*arguments, is_half_precision=half)


def test_the_states_that_predict_end_before_the_last() -> None:
    states = torch.arange(2.0 * 5).view(2, 5, 1)
    micro = MicroBatch({}, SimpleNamespace(hidden_states=states), torch.ones(2, 2), 1)  # pyright: ignore[reportArgumentType]
    assert micro.predicting_states[0].flatten().tolist() == [2.0, 3.0]
    assert micro.states_ending(before=0)[0].flatten().tolist() == [3.0, 4.0]


# log Z ------------------------------------------------------------------------------------------------------------


def test_the_head_of_log_z_begins_from_its_seed_and_leaves_the_runs_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    heads = [PartitionHead(4, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (torch.cat([value.flatten() for value in head.parameters()]) for head in heads)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert [type(layer).__name__ for layer in heads[0].layers] == [
        *["Linear", "GELU", "LayerNorm", "KeyedDropout"] * 2,
        "Linear",
    ]
    dropouts = [layer for layer in heads[0].layers if isinstance(layer, KeyedDropout)]
    for layer in dropouts:
        layer.keys = ["a"]
    masks = [layer(torch.ones(1, 200)) for layer in dropouts]
    assert not torch.equal(*masks)
    assert [float((mask == 0).float().mean()) for mask in masks] == pytest.approx([0.1, 0.1], abs=0.07)


def test_log_z_is_of_the_mean_state_under_the_mask() -> None:
    head = PartitionHead(3).eval()
    states = torch.randn(2, 4, 3)
    mask = torch.tensor([[False, True, True, True], [False] * 4])
    states[0, 0] = math.nan
    found = head(states, mask)
    assert found.shape == (2,)
    assert found[0].item() == pytest.approx(head.layers(states[0, 1:].mean(0)).item(), rel=1e-5)
    assert found[1].item() == pytest.approx(head.layers(torch.zeros(3)).item(), rel=1e-5)


class Doubling:
    """Two processes, of which the other has no gradient."""

    @staticmethod
    def reduce(tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        return tensor / 2 if reduction == "mean" else tensor


@pytest.mark.parametrize(("max_grad_norm", "moved"), [(0.0, 4.0), (1.0, 1.0), (100.0, 4.0)])
def test_the_optimiser_steps_the_head_by_the_mean_gradient_clipped_by_itself(
    max_grad_norm: float, moved: float
) -> None:
    head, policy = PartitionHead(2), nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([policy], lr=1.0, weight_decay=0.5)
    head.join(optimizer, Doubling(), max_grad_norm)
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    before = torch.cat([value.detach().flatten() for value in head.parameters()])
    next(head.parameters()).grad = torch.full((2, 2), 4.0)  # its norm is 8, of both processes 4
    optimizer.step()
    after = torch.cat([value.detach().flatten() for value in head.parameters()])
    assert (after - before).norm().item() == pytest.approx(moved, rel=1e-4)
    assert all(value.grad is None for value in head.parameters())


def test_a_skipped_step_leaves_the_head_once() -> None:
    head = PartitionHead(2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    head.join(optimizer, Doubling(), 0.0)
    first = next(head.parameters())
    head.skips_step = True
    first.grad = None
    before = first.detach().clone()
    optimizer.step()
    assert torch.equal(first, before)
    first.grad = torch.ones_like(first)
    optimizer.step()
    torch.testing.assert_close(before - first, torch.full_like(first, 0.5))


def test_a_head_comes_back_from_its_file_or_is_missed(tmp_path: Path) -> None:
    head, other = PartitionHead(2, seed=1), PartitionHead(2, seed=2)
    head.save(tmp_path)
    other.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), other.parameters(), strict=True))
    for wrong, folder in ((PartitionHead(3), tmp_path), (head, tmp_path / "none")):
        with pytest.raises(RunError, match=r"holds no usable partition\.safetensors"):
            wrong.load(folder)


# Phrases and prompts ----------------------------------------------------------------------------------------------


class Pieces:
    """Tokens are the places of these pieces."""

    pieces = ("Let", "Ġus", "▁see", "Ċ", None, "ing", ".", " ", "LET", "outlet")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.pieces[index] for index in ids]


def test_a_phrase_reaches_into_every_token_it_touches_and_into_no_other() -> None:
    def marked(*rows: list[int], gram: str = "let us") -> list[list[int]]:
        return planning_mask(Pieces(), rows, [gram, "see"], 6).int().tolist()

    assert marked([0, 1, 6]) == [[1, 1, 0, 0, 0, 0]]
    assert marked([6, 8, 3, 1, 2], [9, 1]) == [[0, 1, 1, 1, 1, 0], [0] * 6]
    assert marked([2, 5]) == [[0] * 6]  # seeing is another word
    assert marked([4, 0, 1]) == [[0, 1, 1, 0, 0, 0]]  # a token without a piece is in no phrase
    assert marked([]) == [[0] * 6]


def test_a_prompt_is_known_by_its_words_and_its_images() -> None:
    messages = [{"role": "user", "content": "a"}]
    keys = [prompt_key("a"), prompt_key(messages), prompt_key("a", [square(0)]), prompt_key("a", [square(1)])]
    assert len(set(keys)) == 4
    assert prompt_key([{"content": "a", "role": "user"}]) == keys[1]


def test_a_micro_batch_has_one_key_a_prompt() -> None:
    device = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"))
    provider = provider_of(PROMPT_KEYS, device)  # pyright: ignore[reportArgumentType]
    rows = [{"prompt": name, "images": None} for name in "aabb"]
    columns = provider.sampled(rows, {})
    micro = MicroBatch(columns, SimpleNamespace(hidden_states=None), torch.ones(4, 1), 2)  # pyright: ignore[reportArgumentType]
    found = provider.tensor(micro)
    assert found is not None
    assert found.tolist() == [prompt_key("a"), prompt_key("b")]


def test_a_data_set_is_known_by_its_rows_in_their_order() -> None:
    rows = [{"prompt": str(place), "image": b"\xff\x00", "value": place / 3} for place in range(5)]
    digest = dataset_digest(Dataset.from_list(rows))
    assert digest is not None
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert dataset_digest(Dataset.from_list(rows)) == digest
    others = [rows[::-1], rows[:4], [rows[0] | {"image": b"\xff"}, *rows[1:]], [rows[0] | {"prompt": ""}, *rows[1:]]]
    assert digest not in {dataset_digest(Dataset.from_list(other)) for other in others}
    assert dataset_digest(Dataset.from_list(rows).to_iterable_dataset()) is None


def test_rows_of_problems_have_images_if_one_has() -> None:
    with pytest.raises(DataError, match="no training problems"):
        prompt_dataset([], None)
    plain = SimpleNamespace(chat_template=None)
    rows = prompt_dataset([Problem("a", "words", "5")], plain)
    assert rows.to_list() == [{"prompt": "words", "answer": "5", "problem_id": "a"}]
    with pytest.raises(ConfigError, match="'a' shows an image"):
        prompt_dataset([Problem("a", "words", "5", images=(square(0),))], plain)


# Objectives -------------------------------------------------------------------------------------------------------


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(**settings)


@pytest.mark.parametrize(("limit", "advice"), [(33, None), (32, 10), (3, 1), (2, 1)])
def test_a_completion_must_have_more_pairs_than_there_are_observables(limit: int, advice: int | None) -> None:
    args = SimpleNamespace(max_steps=1, max_completion_length=limit, num_generations=4)
    options = {"xi": 1.0, "dictionary": {"num_observables": 31}}
    if advice is None:
        assert objective_for("relax", options, args).probe is not None
        return
    words = (
        rf"num_observables'\] = 31 needs .* gives at most {limit - 1}; set objective_options.* to {advice}, or allow"
    )
    with pytest.raises(ConfigError, match=words):
        objective_for("relax", options, args)


def test_a_method_without_a_probe_is_monitored_unless_it_is_not_wanted() -> None:
    assert build_objective_from(config_of(objective={"name": "grpo"})).probe is not None
    quiet = build_objective_from(config_of(objective={"name": "grpo"}, monitor=False))
    assert quiet.probe is None
    own = build_objective("dapo")
    assert build_objective_from(config_of(monitor=False), own) is own
    assert build_objective_from(config_of(), own).name == "dapo"


def test_idle_settings_are_named_where_a_rollout_serves_one_update() -> None:
    config = config_of(objective={"name": "grpo", "clip_low": 0.1})
    (one,) = idle_parts(config, build_objective_from(config), 1)
    assert "objective.clip_low" in one
    assert " of grpo has no effect" in one
    assert idle_parts(config, build_objective_from(config), 2) == []
    config = config_of(objective={"name": "grpo", "clip_low": 0.1, "clip_high": 0.3})
    (two,) = idle_parts(config, build_objective_from(config), 1)
    assert "objective.clip_low, objective.clip_high of grpo have no effect" in two
    assert "plain policy gradient" not in two
    config = config_of(objective={"name": "gspo"})
    (whole,) = idle_parts(config, build_objective_from(config), 1)
    assert "have no effect, and gspo is the plain policy gradient. For several" in whole


def test_the_objective_of_a_script_knows_the_scripts_limits() -> None:
    args = SimpleNamespace(max_steps=-1, max_completion_length=64, num_generations=4)
    assert objective_for("grpo", {"clip_low": 0.1}, args).name == "grpo"
    built = build_objective("grpo")
    assert objective_for(built, {}, args) is built
    with pytest.raises(ConfigError, match="objective_options clip_low are for a method given by name"):
        objective_for(built, {"clip_low": 0.1}, args)
    with pytest.raises(ConfigError, match="objective is a int"):
        objective_for(3, {}, args)  # pyright: ignore[reportArgumentType]
    # The length of the run is known only where it is given in updates.
    for args.max_steps in (0, 1):
        assert objective_for("grpo", {}, args).name == "grpo"
    args.max_completion_length = None
    assert objective_for("relax", {}, args)


def test_a_method_that_only_logs_goes_on_without_a_dictionary(tmp_path: Path) -> None:
    config = config_of(objective={"name": "grpo"}, dictionary={"num_observables": 4})
    monitored = build_objective_from(config)
    save_objective(monitored, EntropyForecast(entropy=0.5), tmp_path)
    assert not (tmp_path / DICTIONARY_FILE).exists()
    assert not list(tmp_path.glob("*.part"))
    restored, forecast, draws = restore_objective(monitored, tmp_path)
    assert (restored.probe, forecast, draws) == (monitored.probe, EntropyForecast(entropy=0.5), 0)
    with pytest.raises(RunError, match="holds no usable"):
        restore_objective(build_objective("relax", xi=1.0), tmp_path)
    plain = build_objective("grpo")
    assert restore_objective(plain, tmp_path)[0].probe is None
    assert monitored.probe is not None
    states = torch.randn(4, 40, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    fitted = monitored.calibrated(states, torch.ones(4, 40, dtype=torch.bool))
    assert fitted.probe is not None
    assert fitted.probe.dictionary is not None
    save_objective(fitted, EntropyForecast(), tmp_path)
    again = restore_objective(monitored, tmp_path)[0].probe
    assert again is not None
    assert again.dictionary is not None
    assert again.dictionary.digest == fitted.probe.dictionary.digest
    (tmp_path / STATE_FILE).write_text(json.dumps({}))
    assert restore_objective(monitored, tmp_path)[1:] == (EntropyForecast(), 0)


# Rollouts ---------------------------------------------------------------------------------------------------------


def test_a_group_with_two_scores_and_one_without_teaches_if_the_two_differ() -> None:
    rewards = torch.tensor([[math.nan, 1.0, 0.0], [1.0, math.nan, 1.0], [0.0, 0.0, math.nan], [-1.0, -2.0, math.nan]])
    assert is_informative(rewards).tolist() == [True, False, False, True]


def test_a_refill_takes_the_groups_that_teach_and_counts_all_processes() -> None:
    class Two:
        process_index, num_processes = 1, 2

        @staticmethod
        def gather(tensor: torch.Tensor) -> torch.Tensor:
            return torch.cat([tensor, tensor])

    given: list[Any] = []

    def sample(rows: list[Any]) -> Rollout:
        given.append(rows)
        rewards = torch.tensor([5.0, 5.0, 0.0, 1.0] if len(given) == 1 else [2.0, 3.0])
        return Rollout(
            {"rewards": rewards, "scalar": torch.tensor(1)}, [{"row": f"{len(given)}-{i}"} for i in range(4)]
        )

    first = Rollout(
        {"rewards": torch.tensor([1.0, 1.0, 0.0, 1.0, 2.0, 2.0]), "scalar": torch.tensor(1)},
        [{"row": str(index)} for index in range(6)],
    )
    sampling = DynamicSampling(4, seed=0)
    rollout, figures = sampling.refilled(first, sample, Two(), range(100), 2, 0)
    assert rollout.tensors["rewards"].tolist() == [0.0, 1.0, 0.0, 1.0, 2.0, 3.0]
    assert [row["row"] for row in rollout.rows] == ["1-2", "1-3", "2", "3", "2-0", "2-1"]
    assert [len(rows) for rows in given] == [4, 2]
    assert given[0][0] == given[0][1] != given[0][2]
    assert figures == {"sampling/completions": (3 + 2 + 1) * 2 * 2.0, "sampling/informative": 1.0}
    assert sampling.draws == 2 * (2 + 1)
    with pytest.raises(ConfigError, match="at least 1, but is 0"):
        DynamicSampling(0, seed=0)
    assert DynamicSampling(1, seed=0).refilled(first, sample, Two(), range(9), 2, 0)[1]["sampling/completions"] == 12


def test_masks_are_filled_with_zeros_and_ids_with_padding_on_their_side() -> None:
    def rows(*values: list[list[int]]) -> dict[str, torch.Tensor]:
        names = ("prompt_ids", "prompt_mask", "completion_mask", "tool_mask")
        return dict(zip(names, map(torch.tensor, values), strict=True))

    old = Rollout(rows([[1], [2]], [[1], [1]], [[1], [1]], [[1], [1]]), [{}, {}])
    new = Rollout(rows([[7, 8]], [[1, 1]], [[1, 1]], [[1, 1]]), [{"new": True}])
    _replace(old, new, [0], [0], 1, pad_token_id=99)
    assert {key: value.tolist() for key, value in old.tensors.items()} == {
        "prompt_ids": [[7, 8], [99, 2]],
        "prompt_mask": [[1, 1], [0, 1]],
        "completion_mask": [[1, 1], [1, 0]],
        "tool_mask": [[1, 1], [1, 0]],
    }


class Words:
    all_special_ids = (0,)

    @staticmethod
    def decode(ids: list[int]) -> str:
        return f" {ids[0]}"


@pytest.mark.parametrize(("group", "trunks"), [(4, 0), (4, 4), (4, 3), (4, -1)])
def test_trunks_that_leave_no_branches_are_refused(group: int, trunks: int) -> None:
    with pytest.raises(ConfigError, match=f"sampling.trunks = {trunks} must divide"):
        Branching(group, trunks)


def test_branches_of_one_trunk() -> None:
    plan = Branching(3, trunks=1, top=1)
    completions, lengths = plan.completed(
        [[1]] * 3,
        lambda prompts: [[20, 21]] * len(prompts),
        lambda prompts, found: [torch.tensor([0.0, 1.0, 9.0])] * len(found),
        Words,
    )
    assert completions == [[20, 21], [20, 20, 21], [20, 20, 21]]
    assert lengths == [0, 1, 1]
    # The entropy behind the end of a completion is none of its tokens'.
    assert plan.start([20, 21], torch.tensor([0.0, 1.0, 9.0]), Words) == 1
    assert plan.start([20], torch.tensor([1.0]), Words) == 0
    given = branching_from(SamplingConfig(trunks=2, branch_top=7), 4, 9)
    assert given is not None
    assert given.top == 7


def test_prompts_of_one_length_are_completed_together_and_come_back_in_their_order() -> None:
    asked: list[Any] = []

    def complete(prompts: list[Any]) -> list[list[int]]:
        asked.append(prompts)
        return [[sum(prompt)] for prompt in prompts]

    assert of_one_length([[5, 5], [1], [2, 2], [7]], complete) == [[10], [1], [4], [7]]
    assert asked == [[[1], [7]], [[5, 5], [2, 2]]]


def test_a_training_set_smaller_than_a_rollout_batch_has_no_pass() -> None:
    def sampler(num_prompts: int, **more: Any) -> PromptSampler:
        sizes: Any = {"group_size": 2, "prompts_per_rollout": 4, "repeats": 1, "updates_per_rollout": 1}
        return PromptSampler(num_prompts, **sizes, updates_done=lambda: 0, seed=0, **more)

    assert (len(sampler(3)), list(sampler(3))) == (0, [])
    assert sampler(3).position(2).pass_index == 2
    assert list(sampler(4, shuffle=False)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(sampler(4)) != list(sampler(4, shuffle=False))


# Rewards of one's own ---------------------------------------------------------------------------------------------


def score(completions: list[Any], **_: Any) -> Any:
    return np.array([float(len(completion)) for completion in completions])


async def later(completions: list[Any], **_: Any) -> list[float]:
    return [0.0 for _ in completions]


class Silent:
    def __call__(self, completions: list[Any], **_: Any) -> list[float | None]:
        return [None for _ in completions]


def test_a_users_functions_stand_behind_the_door_and_nothing_else_does() -> None:
    model, own = nn.Linear(1, 1), Silent()
    found = own_rewards([score, later, own, "name", model])
    assert [isinstance(each, OwnReward) for each in found] == [True, True, True, False, False]
    assert [each.__name__ for each in found[:3]] == ["score", "later", "Silent"]
    assert found[3:] == ["name", model]
    (alone,) = own_rewards(score)
    assert alone(completions=["ab", "c"], prompts=[]) == [2.0, 1.0]
    (awaited,) = own_rewards(later)
    assert asyncio.run(awaited(completions=["a"])) == [0.0]


def test_a_users_functions_are_tried_on_two_rows_with_their_columns() -> None:
    seen: list[Any] = []

    def watching(completions: list[Any], **named: Any) -> list[float]:
        seen.append((completions, named))
        return [1.0] * len(completions)

    rows = [{"prompt": f"p{i}", "completion": "x", "answer": str(i), "truncated": True} for i in range(4)]
    try_rewards(own_rewards([watching]), rows)
    ((completions, named),) = seen
    assert completions[1] == "The answer is \\boxed{1}.\n<answer>1</answer>"
    assert (named["prompts"], named["answer"], named["truncated"]) == (["p0", "p1"], ["0", "1"], [True, True])
    assert [len(ids) for ids in named["completion_ids"]] == [9, 9]
    assert "completion" not in named
    assert named["trainer_state"].global_step == 0
    assert named["log_extra"]("name", []) is None
    assert named["log_metric"]("name", 1.0) is None
    seen.clear()
    try_rewards(own_rewards([watching]), [{"prompt": [{"role": "user", "content": "q"}], "solution": None}])
    assert seen[0][0][0] == [{"role": "assistant", "content": "The answer is \\boxed{42}.\n<answer>42</answer>"}]
    assert seen[0][1]["truncated"] == [False]
    seen.clear()
    try_rewards(own_rewards([watching]), [])
    try_rewards(own_rewards([watching]), iter(rows))
    try_rewards(["name"], rows)
    assert seen == []


def test_one_function_must_score_and_one_of_several_may_be_silent() -> None:
    rows = [{"prompt": "p"}] * 2
    with pytest.raises(DataError, match="scored none of 2 completions"):
        try_rewards(own_rewards([Silent()]), rows)
    try_rewards(own_rewards([Silent(), score]), rows)
    with pytest.raises(DataError, match="infinite score"):
        try_rewards(own_rewards([Silent(), lambda completions, **_: [math.inf] * len(completions)]), rows)


# Files and settings -----------------------------------------------------------------------------------------------


def test_what_a_process_kept_comes_back(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    state = {
        "a": [1, None, "text", 0.5, True],
        "views": (base[:, 1], base[:1]),
        "inner": {"b": torch.tensor(3)},
        "c": {},
    }
    save_rank_state(state, tmp_path, 2)
    found = load_rank_state(tmp_path, 2, "cpu")
    assert found is not None
    assert (found["a"], found["c"]) == (state["a"], {})
    assert [tensor.tolist() for tensor in found["views"]] == [[1.0, 4.0], [[0.0, 1.0, 2.0]]]
    assert found["inner"]["b"].item() == 3
    assert load_rank_state(tmp_path, 0, "cpu") is None
    with pytest.raises(TypeError):
        save_rank_state({"a": object()}, tmp_path, 1)
    (tmp_path / "rank_2.safetensors").unlink()
    with pytest.raises(RunError, match=r"rank_2\.json and rank_2\.safetensors cannot be read"):
        load_rank_state(tmp_path, 2, "cpu")


BATCHES: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "gradient_accumulation_steps": 2,
    "use_cpu": True,
    "bf16": False,
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1}, "use 4 or 8."),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}, "groups; use 4."),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, "gradient_accumulation_steps = 2, the"),
        ({"steps_per_generation": 3}, "steps_per_generation = 3 is not a multiple"),
    ],
)
def test_batches_that_would_break_groups_are_refused_with_the_nearest(
    settings: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        RelaxConfig(output_dir=str(tmp_path), **(BATCHES | settings))


def test_an_evaluation_holds_whole_groups_too_and_the_given_arguments_stay(tmp_path: Path) -> None:
    args = RelaxConfig(output_dir=str(tmp_path), per_device_eval_batch_size=6, **BATCHES)
    with pytest.raises(ConfigError, match="not a multiple of the 4 completions"):
        arguments_for(args, 0.0, evaluates=True)
    before = args.beta
    own = arguments_for(args, 0.25, evaluates=False)
    assert (own.beta, own.loss_type, own.router_aux_loss_coef) == (0.25, "grpo", 0.0)
    assert args.beta == before
    args.num_generations_eval = 3
    assert arguments_for(args, 0.0, evaluates=True).beta == 0.0
    assert args.disable_dropout
