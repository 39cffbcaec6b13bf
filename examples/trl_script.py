"""Your own TRL script with two lines changed: GRPOTrainer -> RelaxTrainer, GRPOConfig -> RelaxConfig.

    python examples/trl_script.py

Data, reward function and configuration are TRL's own kind. What the objective replaces (`loss_type`, `beta`, `epsilon`,
`scale_rewards`, ...) is refused with the setting to use, so nothing that you set is silently ignored. With peft
installed, `peft_config=LoraConfig(...)` works as it does with TRL.

Settings: the embedded policy, 10 updates of 4 prompts x 8 completions of at most 48 tokens, seed 42 (TRL's default).

Expect: "update 1: reward 0.312, DSD 0.0347, KL 0.00000" and a KL between 0.001 and 0.004 from update 5 on (16 s of one
CPU core; another version of torch may draw other completions).
"""

from __future__ import annotations

import argparse
import tempfile

from datasets import Dataset

from relax_rl import RelaxConfig, RelaxTrainer
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.tasks import CountdownTask
from relax_rl.training.models import model_location


def make_dataset(size: int = 256) -> Dataset:
    """Rows of a prompt and whatever else the reward function needs."""
    problems = CountdownTask().problems("train", size)
    return Dataset.from_list([{"prompt": problem.prompt, "answer": problem.answer} for problem in problems])


def solved(completions: list[str], answer: list[str], **_: object) -> list[float | None]:
    """A TRL reward function: completions, the columns of the data set, and None where there is no score."""
    return CountdownVerifier().score(completions, answer)


def main() -> None:
    parser = argparse.ArgumentParser(description="A TRL script with the ReLaX objective.")
    parser.add_argument("--updates", type=int, default=10)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trainer = RelaxTrainer(  # was GRPOTrainer
            model=model_location("tiny"),
            reward_funcs=solved,
            train_dataset=make_dataset(),
            args=RelaxConfig(  # was GRPOConfig
                output_dir=folder,
                per_device_train_batch_size=32,
                num_generations=8,
                max_completion_length=48,
                max_steps=words.updates,
                learning_rate=2e-4,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                bf16=False,
                use_cpu=True,
                disable_tqdm=True,
            ),
            # New, and optional: the method and its settings.
            objective="relax",
            objective_options={"xi": "quantile:0.9", "dictionary": {"num_observables": 12}},
        )
        trainer.train()
        rows = [row for row in trainer.state.log_history if "latent/dsd" in row]
    for row in rows:
        print(f"update {row['step']}: reward {row['reward']:.3f}, DSD {row['latent/dsd']:.4f}, KL {row['kl']:.5f}")


if __name__ == "__main__":
    main()
