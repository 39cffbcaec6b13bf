"""CURE's rollout plan: branches off the least certain tokens of the first completions."""

from __future__ import annotations

import pytest
import torch

from relax_rl.config.settings import SamplingConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.training.trl.branching import Branching, branching_from
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import make_trainer


class Words:
    """Token 0 is special, 1 to 9 are of one character, the others of two."""

    all_special_ids = (0,)

    @staticmethod
    def decode(ids):
        return f" {ids[0]}"


def test_trunks_and_branches_are_put_in_their_places():
    plan = Branching(group_size=6, trunks=2, top=1, max_completion_length=6)
    asked = []

    def complete(prompts):
        asked.append(prompts)
        return [[10 * len(asked) + place for place in range(4)] for _ in prompts]

    def entropies(prompts, completions):
        return [torch.tensor([9.0, 0.1, 0.2, 0.3]), torch.tensor([0.0, 5.0, 0.0, 0.0])] * (len(prompts) // 2)

    prompts = [[1, 2]] * 6 + [[3]] * 6
    completions, lengths = plan.completed(prompts, complete, entropies, Words)
    trunk, rest = [10, 11, 12, 13], [20, 21, 22, 23]
    assert asked[0] == [[1, 2], [1, 2], [3], [3]]
    # The first trunk branches before its last token (the first is never picked), the second before its second.
    assert asked[1] == [[1, 2, 10, 11, 12]] * 2 + [[1, 2, 10]] * 2 + [[3, 10, 11, 12]] * 2 + [[3, 10]] * 2
    long, short = [10, 11, 12, 20, 21, 22], [10, *rest]
    assert completions == [trunk, trunk, long, long, short, short] * 2
    assert lengths == [0, 0, 3, 3, 1, 1] * 2


def test_what_may_be_picked():
    plan = Branching(16, top=2)
    entropy = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    ids = [12, 0, 5, 13, 14, 15]  # the first token, a special one and one of one character stand out
    torch.manual_seed(0)
    assert {plan.start(ids, entropy, Words) for _ in range(40)} == {3, 4}
    assert plan.start([12, 0, 5], entropy, Words) == 0
    with pytest.raises(ConfigError, match="leave room"):
        Branching(group_size=4, trunks=4)


def test_branches_learn_from_their_own_tokens_only(tmp_path):
    class Branched(RelaxTrainer):
        def __init__(self, **kwargs):
            super().__init__(branching=Branching(4, trunks=2, top=3, max_completion_length=12), **kwargs)

    torch.manual_seed(0)
    trainer = make_trainer(build_objective("dapo"), tmp_path, trainer_class=Branched, max_completion_length=12)
    seen = []
    original = trainer._whole_groups
    trainer._whole_groups = lambda parts: seen.append(original(parts)) or seen[-1]
    trainer.train()
    assert len(seen) == 2
    for batch in [batch for batches in seen for batch in batches]:
        ids = batch["completion_ids"].unflatten(0, (-1, 4))
        prefix = (batch["tool_mask"] == 0).sum(1).unflatten(0, (-1, 4))
        assert (prefix[:, :2] == 0).all()
        for group, lengths in zip(ids, prefix, strict=True):
            for trunk in range(2):
                length = int(lengths[2 + trunk])
                assert torch.equal(group[2 + trunk, :length], group[trunk, :length])
        learned = trainer._completion_mask(batch)
        assert torch.equal(learned.sum(1), batch["completion_mask"].sum(1) - prefix.flatten())
    assert any((batch["tool_mask"] == 0).any() for batches in seen for batch in batches)


def test_entropies_are_those_of_the_forward(tmp_path):
    trainer = make_trainer(build_objective("grpo"), tmp_path)
    prompts, completions = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13, 14]]
    found = trainer._entropies(prompts, completions)
    for prompt, completion, entropy in zip(prompts, completions, found, strict=True):
        with torch.no_grad():
            logits = trainer.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
        torch.testing.assert_close(entropy, expected, atol=1e-5, rtol=1e-4)


def test_the_plan_is_a_setting_of_the_run():
    assert branching_from(SamplingConfig(), 16, 96) is None
    plan = branching_from(SamplingConfig(trunks=4), 16, 96)
    assert (plan.group_size, plan.trunks, plan.top, plan.max_completion_length) == (16, 4, 20, 96)
    with pytest.raises(ConfigError, match=r"sampling\.trunks = 5"):
        branching_from(SamplingConfig(trunks=5), 16, 96)


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
