"""The plain loop is the oracle of the TRL path: the same completions, the same parameters after five updates."""

import itertools

import pytest
from datasets import Dataset

from relax_rl import RelaxConfig, RelaxTrainer
from relax_rl.tasks import CountdownTask
from relax_rl.training.models import load_model
from support.example_scripts import example

PROMPTS, GROUP, UPDATES, LENGTH = 2, 4, 5, 40
# All is in float64 but TRL's head. Adam with its usual 1e-8 would make whole steps of that head's rounding, wherever a
# gradient is next to zero.
RATE, EPSILON = 5e-5, 1e-5
RELAX = {"xi": "quantile:0.5", "dictionary": {"num_observables": 8, "steps": 5}}


def parity(completion_ids, **_):
    """A reward that about half of the completions get."""
    return [float(sum(ids) % 2) for ids in completion_ids]


class Recording(RelaxTrainer):
    """Keeps the prompts and completions of every rollout batch, as token ids."""

    def __init__(self, **arguments):
        self.sampled = []
        super().__init__(**arguments)

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        completions, log_probs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        self.sampled += zip(map(list, prompt_ids), map(list, completions), strict=True)
        return completions, log_probs


def by_trl(folder, objective, options, updates_per_rollout):
    """The trained policy and what it sampled on the way."""
    model, tokenizer = load_model("tiny")
    trainer = Recording(
        model=model.double(),
        processing_class=tokenizer,
        reward_funcs=parity,
        train_dataset=Dataset.from_list([{"prompt": p.prompt} for p in CountdownTask().problems("train", 64)]),
        objective=objective,
        objective_options=options,
        args=RelaxConfig(
            output_dir=str(folder),
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            steps_per_generation=updates_per_rollout,
            max_completion_length=LENGTH,
            max_steps=UPDATES,
            learning_rate=RATE,
            adam_beta2=0.95,
            adam_epsilon=EPSILON,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("objective", "options", "updates_per_rollout"),
    [("grpo", {}, 1), ("kl_cov", {"k_ratio": 0.1}, 2), ("relax", RELAX, 1), ("relax", RELAX, 2)],
)
@pytest.mark.slow
def test_the_trainer_and_the_loop_end_at_the_same_parameters(objective, options, updates_per_rollout, tmp_path):
    loop = example("plain_loop")
    trainer = by_trl(tmp_path, objective, options, updates_per_rollout)
    model, _ = load_model("tiny")
    start = [parameter.detach().clone() for parameter in model.parameters()]
    model.double().train()
    draws = iter(trainer.sampled)

    def sample(prompts):
        drawn = list(itertools.islice(draws, len(prompts)))
        assert [prompt for prompt, _ in drawn] == prompts
        return [completion for _, completion in drawn]

    rewards = []
    ended = loop.train(
        model,
        ((prompt, None) for prompt, _ in trainer.sampled[::GROUP]),
        sample,
        lambda completions, _: parity(completions),
        loop.Settings(
            objective,
            options,
            UPDATES,
            PROMPTS,
            GROUP,
            updates_per_rollout,
            LENGTH,
            learning_rate=RATE,
            epsilon=EPSILON,
        ),
        lambda update, reward, metrics: rewards.append(reward),
    )
    assert len(rewards) == UPDATES
    apart = [
        (ours - theirs).abs().max() for ours, theirs in zip(model.parameters(), trainer.model.parameters(), strict=True)
    ]
    moved = [(ours - first).abs().max() for ours, first in zip(model.parameters(), start, strict=True)]
    assert max(apart) < 1e-6 < 1e-4 < max(moved)
    if ended.probe is not None:
        assert ended.probe.bound.value == pytest.approx(trainer.objective.probe.bound.value, rel=1e-5)
