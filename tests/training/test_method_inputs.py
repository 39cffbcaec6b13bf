"""The tensors that some methods need, and that the trainer makes for them."""

import pytest
import torch

from relax_rl.errors import ModelError, RunError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import ENTROPY_FLOW, LOG_PARTITION, SCORE_FEATURES
from relax_rl.training.inputs.partition import KeyedDropout
from relax_rl.training.inputs.planning import planning_mask
from relax_rl.training.inputs.provider import MicroBatch
from relax_rl.training.inputs.providers import provider_of
from relax_rl.training.inputs.vocabulary import entropy_flow, vocabulary_statistics
from relax_rl.training.models import load_tokenizer
from support.scripted import GROUP, make_trainer, tiny_llama


@pytest.fixture
def rollout(tmp_path):
    """A trainer with its first rollout batch in place, for a given objective."""

    def build(objective, **settings):
        trainer = make_trainer(objective, tmp_path, **settings)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        return trainer, trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))

    return build


def test_entropy_flow_and_features_are_those_of_the_models_own_logits(rollout):
    trainer, inputs = rollout(build_objective("opefo"), temperature=0.7)
    forward, _ = trainer._forward(trainer.model, inputs)
    batch = trainer.rollout_batch(inputs, forward)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    width = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        logits = trainer.model(ids, attention_mask=attention).logits[:, -width - 1 : -1] / 0.7
    mask = inputs["completion_mask"].bool()
    expected = entropy_flow(logits.double(), inputs["completion_ids"])
    found = batch.extras[ENTROPY_FLOW].flatten(0, 1)
    torch.testing.assert_close(found[mask].double(), expected[mask], atol=1e-5, rtol=1e-3)
    head = trainer.model.lm_head.weight.detach()
    features = head[inputs["completion_ids"]] - logits.softmax(-1) @ head
    mean = (features * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    assert not batch.extras[ENTROPY_FLOW].requires_grad
    wanted = provider_of(SCORE_FEATURES, trainer)
    found = wanted.tensor(MicroBatch(inputs, forward, mask, GROUP))
    torch.testing.assert_close(found, mean, atol=1e-5, rtol=1e-3)


def test_a_head_that_does_more_than_a_product_is_refused():
    model = tiny_llama()
    states, tokens = torch.randn(1, 5, 32), torch.ones(1, 5, dtype=torch.int64)
    with pytest.raises(ModelError, match="a cap or a scale"):
        vocabulary_statistics(model, states, tokens, tokens.bool(), torch.full((1, 5), -0.1), 1.0)


def test_a_head_in_sixteen_bits_may_round_though_the_states_came_back_in_full():
    model = tiny_llama()
    states, tokens = torch.randn(1, 5, 32), torch.ones(1, 5, dtype=torch.int64)
    log_probs = model.lm_head(states).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1) + 0.02
    with pytest.raises(ModelError, match="a cap or a scale"):
        vocabulary_statistics(model, states, tokens, tokens.bool(), log_probs, 1.0)
    vocabulary_statistics(model, states, tokens, tokens.bool(), log_probs, 1.0, is_half_precision=True)


def test_planning_phrases_are_found_whatever_their_case_and_cut_into_tokens():
    tokenizer = load_tokenizer("tiny")
    text = "So: WE  can use it, we can using it; then we can use it all. We can use"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    mask = planning_mask(tokenizer, [ids, ids[:3]], ["we can use", "never said"], len(ids) + 2)
    marked = tokenizer.decode([token for token, is_on in zip(ids, mask[0].tolist(), strict=False) if is_on])
    assert "".join(marked.lower().split()) == "wecanuse" * 3
    assert not mask[1].any()
    assert not mask[:, len(ids) :].any()


def test_hicra_trains_on_the_phrases_of_the_completions(rollout):
    tokenizer = load_tokenizer("tiny")
    trainer, inputs = rollout(build_objective("grpo"))
    words = tokenizer.decode(inputs["completion_ids"][0][:6])
    gram = " ".join(word for word in words.split() if word.isalnum())[:3] or words.strip()[:1]
    trainer, inputs = rollout(build_objective("hicra", grams=[gram]))
    rows = inputs["planning_mask"]
    lengths = inputs["completion_mask"].sum(1).tolist()
    ids = [row[:length].tolist() for row, length in zip(inputs["completion_ids"], lengths, strict=True)]
    assert torch.equal(rows, planning_mask(tokenizer, ids, [gram], rows.shape[1]))
    assert trainer.compute_loss(trainer.model, inputs).isfinite()


def test_erc_compares_with_the_entropy_of_the_policy_that_sampled(tmp_path):
    rows = {}
    for bound in (1e-6, 0.9):
        trainer = make_trainer(
            build_objective("erc", entropy_low=bound, entropy_high=bound),
            tmp_path / str(bound),
            num_iterations=2,
            max_steps=2,
            optim="sgd",
            learning_rate=0.5,
        )
        trainer.train()
        rows[bound] = [row for row in trainer.state.log_history if "clip_ratio/entropy" in row]
    # The first update is on-policy; in the second nearly every entropy has moved, but none by nine tenths.
    assert [row["clip_ratio/entropy"] for row in rows[0.9]] == [0.0, 0.0]
    assert rows[1e-6][1]["clip_ratio/entropy"] > 0.9


def partition_of(trainer):
    """The head that learns log Z."""
    return trainer._providers[LOG_PARTITION].head


def flow_trainer(folder, **settings):
    return make_trainer(build_objective("flow_rl"), folder, save_steps=1, save_strategy="steps", **settings)


def test_the_head_for_log_z_is_trained_beside_the_policy(tmp_path):
    trainer = flow_trainer(tmp_path)
    before = [parameter.detach().clone() for parameter in partition_of(trainer).parameters()]
    trainer.train()
    after = list(partition_of(trainer).parameters())
    assert all(not torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in after)
    rows = [row for row in trainer.state.log_history if "group/log_partition" in row]
    assert len(rows) == 2
    assert rows[1]["group/residual"] > 0


def test_the_head_for_log_z_comes_back_with_its_optimiser(tmp_path):
    whole = flow_trainer(tmp_path / "whole", max_steps=3)
    whole.train()
    resumed = make_trainer(build_objective("flow_rl"), tmp_path / "resumed", max_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    for ours, theirs in zip(partition_of(resumed).parameters(), partition_of(whole).parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    (tmp_path / "whole" / "checkpoint-2" / "partition.safetensors").unlink()
    with pytest.raises(RunError, match=r"partition\.safetensors"):
        make_trainer(build_objective("flow_rl"), tmp_path / "bad", max_steps=3).train(
            resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2")
        )


def test_the_dropout_of_log_z_does_not_depend_on_the_micro_batches(tmp_path):
    cuts = {"whole": (4 * GROUP, 1), "parts": (GROUP, 4)}
    settings = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}
    heads, rows = [], []
    for name, (size, parts) in cuts.items():
        trainer = make_trainer(
            build_objective("flow_rl", tilt=0.5),
            tmp_path / name,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
            **settings,
        )
        trainer.train()
        heads.append(torch.cat([parameter.flatten() for parameter in partition_of(trainer).parameters()]))
        rows.append([row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row])
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
    torch.testing.assert_close(heads[0], heads[1], atol=1e-5, rtol=1e-4)


def test_dropout_by_keys_drops_the_share_and_another_one_at_each_update():
    layer = KeyedDropout(0.25)
    layer.keys = [f"0 {update} [1, 2]" for update in range(400)]
    dropped = layer(torch.ones(400, 50))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert len({tuple(row) for row in dropped.tolist()}) == 400
    assert torch.equal(dropped, layer(torch.ones(400, 50)))
    assert torch.equal(layer.eval()(torch.ones(400, 50)), torch.ones(400, 50))


def test_log_z_is_that_of_the_prompt_alone(rollout):
    trainer, inputs = rollout(build_objective("flow_rl"))
    partition_of(trainer).eval()
    trainer.model.eval()
    forward, _ = trainer._forward(trainer.model, inputs)
    found = trainer.rollout_batch(inputs, forward).required(LOG_PARTITION)
    for prompt in range(len(found)):
        row = prompt * GROUP
        ids = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
        with torch.no_grad():
            states = trainer.model(ids[None], output_hidden_states=True).hidden_states[-1]
            alone = partition_of(trainer).layers(states.mean(1)).item()
        assert found[prompt].item() == pytest.approx(alone, rel=1e-4, abs=1e-5)
