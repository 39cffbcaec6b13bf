"""What the adapter rests on: TRL's forward, TRL's loss, whole groups. A new TRL that breaks one of these fails here."""

import dataclasses

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from relax_rl.config import load_config
from relax_rl.errors import ConfigError, DependencyError, ModelError
from relax_rl.objectives import build_objective
from relax_rl.training.trl.config import grpo_config
from relax_rl.training.trl.minors import check_trains_on, check_trl_version, reference_options
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.replaced import REPLACED, REPLACED_BY_RUN
from support.scripted import GROUP, make_trainer, tiny_llama

DICTIONARY = {"num_observables": 8, "steps": 3}


@pytest.fixture
def rollout(tmp_path):
    """A trainer with its first rollout batch in place, for a given objective."""

    def build(objective, **settings):
        trainer = make_trainer(objective, tmp_path, **settings)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        return trainer, trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))

    return build


def gradients(trainer, loss):
    trainer.model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("off_policy", [False, True])
def test_our_grpo_is_trls_grpo(rollout, beta, off_policy):
    trainer, inputs = rollout(build_objective("grpo", beta=beta))
    if off_policy:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            forward, _ = trainer._forward(trainer.model, inputs)
        width = inputs["completion_ids"].shape[1]
        noise = 0.3 * torch.randn(inputs["completion_ids"].shape, generator=generator)
        inputs = inputs | {"old_per_token_logps": forward.log_probs[:, -width:] + noise}
    ours = trainer.compute_loss(trainer.model, inputs)
    our_gradient = gradients(trainer, ours)
    theirs = GRPOTrainer.compute_loss(trainer, trainer.model, inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(our_gradient, gradients(trainer, theirs), atol=1e-6, rtol=1e-5)
    assert our_gradient.abs().max() > 1e-4


def test_groups_are_whole_and_in_order_in_every_micro_batch(rollout):
    trainer, _ = rollout(build_objective("grpo"), gradient_accumulation_steps=3)
    batches = trainer._buffered_inputs
    assert len(batches) == 3
    seen = []
    for batch in batches:
        prompts = batch["prompt_ids"].unflatten(0, (-1, GROUP))
        assert (prompts == prompts[:, :1]).all()
        seen += [tuple(row) for row in prompts[:, 0].tolist()]
        advantages = batch["advantages"].unflatten(0, (-1, GROUP))
        torch.testing.assert_close(advantages.sum(1), torch.zeros(len(advantages)), atol=1e-5, rtol=0)
        from_rewards = build_objective("grpo").advantage(
            trainer.rollout_batch(batch, trainer._forward(trainer.model, batch)[0])
        )
        torch.testing.assert_close(from_rewards, advantages)
    assert len(set(seen)) == 6
    # Groups change places with each other, by length; rows do not.
    groups = torch.cat([batch["row"] for batch in batches]).unflatten(0, (-1, GROUP)).tolist()
    assert sorted(groups) == [list(range(start, start + GROUP)) for start in range(0, 6 * GROUP, GROUP)]


def test_token_totals_are_those_of_each_update(rollout):
    trainer, _ = rollout(build_objective("grpo"), gradient_accumulation_steps=2, steps_per_generation=4, max_steps=4)
    batches = trainer._buffered_inputs
    counts = [int(batch["completion_mask"].sum()) for batch in batches]
    assert [batch["num_update_tokens"] for batch in batches] == [sum(counts[:2])] * 2 + [sum(counts[2:])] * 2


def test_hidden_states_are_the_final_norm_output_of_the_completion(rollout):
    for alignment, shift in (("completion", 0), ("predicting", 1)):
        objective = build_objective("relax", beta=0.0, xi=1.0, dictionary=DICTIONARY, state_alignment=alignment)
        trainer, inputs = rollout(objective)
        forward, _ = trainer._forward(trainer.model, inputs)
        batch = trainer.rollout_batch(inputs, forward)
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        with torch.no_grad():
            expected = trainer.model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        width = inputs["completion_ids"].shape[1]
        stop = ids.shape[1] - shift
        torch.testing.assert_close(batch.hidden_states.flatten(0, 1).detach(), expected[:, stop - width : stop])
        assert batch.hidden_states.requires_grad


def test_a_forward_that_hides_its_states_is_refused(rollout):
    trainer, inputs = rollout(build_objective("grpo"))
    trainer._capture.close()
    with pytest.raises(ModelError, match="the decoder ran 0 times"):
        trainer.compute_loss(trainer.model, inputs)


def test_the_dictionary_is_fitted_on_the_first_rollout_and_travels_with_the_checkpoint(tmp_path):
    objective = build_objective("relax", xi="quantile:0.5", dictionary=DICTIONARY)
    trainer = make_trainer(objective, tmp_path, save_strategy="steps", save_steps=1)
    trainer.train()
    probe = trainer.objective.probe
    logged = [row for row in trainer.state.log_history if "latent/dsd" in row]
    assert len(logged) == 2
    assert all(row["latent/dsd_defined"] == 1.0 for row in logged)
    restored = make_trainer(objective, tmp_path, max_steps=3)
    restored.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert restored.objective.probe.dictionary.digest == probe.dictionary.digest
    assert restored.objective.probe.bound.value == probe.bound.value


def test_the_dictionary_is_refitted_when_asked_for(tmp_path):
    settings = DICTIONARY | {"refit_interval": 1}
    objective = build_objective("relax", xi=1.0, beta=0.0, dictionary=settings)
    trainer = make_trainer(objective, tmp_path, max_steps=1)
    trainer.train()
    first = trainer.objective.probe.dictionary.digest
    longer = make_trainer(objective, tmp_path, max_steps=3)
    longer.train()
    assert longer.objective.probe.dictionary.digest != first
    assert longer.objective.probe.bound.value == 1.0


@pytest.mark.parametrize(("interval", "refitted"), [(1, [2, 4, 6, 8]), (2, [2, 4, 6, 8]), (3, [4, 6]), (5, [6])])
def test_an_interval_that_ends_inside_a_rollout_batch_counts(interval, refitted, tmp_path, monkeypatch):
    objective = build_objective("relax", xi=1.0, beta=0.0, dictionary=DICTIONARY | {"refit_interval": interval})
    settings = {"gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 10}
    trainer, fitted = make_trainer(objective, tmp_path, **settings), []
    calibrate = trainer._calibrate
    monkeypatch.setattr(
        trainer, "_calibrate", lambda batches: (fitted.append(trainer.state.global_step), calibrate(batches))
    )
    trainer.train()
    assert fitted == [0, *refitted]


def test_reward_functions_are_told_what_the_limit_cut_and_the_objective_what_was_sampled(tmp_path, monkeypatch):
    told = []

    def reward(completions, completion_ids, truncated, **_):
        told.extend((len(ids), ids[-1], flag) for ids, flag in zip(completion_ids, truncated, strict=True))
        return [float(len(ids) % 2) for ids in completion_ids]

    trainer = make_trainer(build_objective("grpo"), tmp_path, mask_truncated_completions=True)
    scripted = trainer._generate_single_turn
    monkeypatch.setattr(
        trainer, "_generate_single_turn", lambda ids, *_: ([row[:25] for row in scripted(ids)[0]], None)
    )
    monkeypatch.setattr(trainer, "reward_funcs", [reward])
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    with torch.no_grad():
        batch = trainer.rollout_batch(inputs, trainer._forward(trainer.model, inputs)[0])
    lengths, last, is_cut = (torch.tensor(column)[inputs["row"]] for column in zip(*told, strict=True))
    assert torch.equal(is_cut, last != trainer._tokenizer.eos_token_id)
    assert 0 < is_cut.sum() < len(is_cut)
    assert torch.equal(batch.lengths_as_sampled.flatten(), lengths)
    assert torch.equal(batch.lengths.flatten(), lengths.masked_fill(is_cut, 0))


def test_a_checkpoint_without_its_dictionary_is_refused(tmp_path):
    objective = build_objective("relax", xi=1.0, beta=0.0, dictionary=DICTIONARY)
    make_trainer(objective, tmp_path, save_strategy="steps", save_steps=2).train()
    (tmp_path / "checkpoint-2" / "dictionary.safetensors").unlink()
    with pytest.raises(OSError, match=r"dictionary\.safetensors"):
        make_trainer(objective, tmp_path, max_steps=3).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_monitoring_leaves_the_training_bit_identical(tmp_path):
    from relax_rl.objectives.probe import DictionarySettings

    plain = make_trainer(build_objective("grpo"), tmp_path / "plain")
    plain.train()
    watched = make_trainer(build_objective("grpo").monitored(DictionarySettings(8, steps=3)), tmp_path / "watched")
    watched.train()
    for ours, theirs in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert "latent/dsd" in watched.state.log_history[0]


def test_an_update_of_broken_groups_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="whole groups"):
        make_trainer(build_objective("grpo"), tmp_path, per_device_train_batch_size=5)


# Options -----------------------------------------------------------------------------------------------------------


def config_with(**trainer):
    words = [f"--trainer.{key}={value}" for key, value in trainer.items()]
    return load_config("countdown", words)


@pytest.mark.parametrize(
    ("option", "value", "mend"),
    [
        ("loss_type", "dapo", "objective.name"),
        ("beta", 0.1, "objective.beta"),
        ("epsilon_high", 0.28, "objective.clip_high"),
        ("delta", 2.0, "objective.delta"),
        ("importance_sampling_level", "sequence", "objective decides"),
        ("top_entropy_quantile", 0.2, "objective decides"),
        ("entropy_coef", 0.01, "entropy bonus"),
        ("use_bias_correction_kl", "true", "objective.kl_estimator"),
        ("vespo_k_pos", 2.0, "leave it out"),
        ("use_transformers_continuous_batching", "true", "casts the trained weights"),
        ("lerning_rate", 1e-3, "did you mean 'trainer.learning_rate'"),
        ("qqzzqqzz", 1, "'trainer.qqzzqqzz' is not a setting of TRL's GRPOConfig; see TRL's GRPOConfig for the names"),
    ],
)
def test_options_that_would_be_ignored_are_refused(option, value, mend, tmp_path):
    with pytest.raises(ConfigError, match=mend):
        grpo_config(config_with(**{option: value}).trainer, tmp_path, use_cpu=True)


def test_every_refused_option_still_exists_in_trl():
    known = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert set(REPLACED | REPLACED_BY_RUN) <= known


def test_other_options_of_trl_pass_through(tmp_path):
    settings = config_with(mask_truncated_completions="true", warmup_steps=3).trainer
    args = grpo_config(settings, tmp_path, use_cpu=True)
    assert args.mask_truncated_completions
    assert args.warmup_steps == 3


@pytest.mark.parametrize("version", ["1.14.2", "1.17.0"])
def test_an_untested_trl_is_refused(version, tmp_path, monkeypatch):
    check_trl_version()
    monkeypatch.setattr("trl.__version__", version)
    with pytest.raises(DependencyError, match=rf"TRL {version} was not tested .*; install trl>=1.15,<1.17"):
        RelaxConfig(str(tmp_path), use_cpu=True)


def test_a_trl_that_needs_triton_is_refused_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("trl.__version__", "1.15.0")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    check_trains_on("cuda")
    with pytest.raises(DependencyError, match=r"Triton, which does not run on 'cpu'; install trl>=1.16,<1.17, or"):
        RelaxConfig(str(tmp_path), use_cpu=True)


def test_a_trl_that_forgets_the_precision_of_the_reference_is_told(monkeypatch):
    policy = tiny_llama().bfloat16()
    assert reference_options(policy, None) is None
    monkeypatch.setattr("trl.__version__", "1.15.0")
    given = reference_options(policy, {"revision": "main"})
    assert given == {"dtype": torch.bfloat16, "attn_implementation": "sdpa", "revision": "main"}
    assert reference_options("name", None) is None
