"""The trainer of a run, from its built parts."""

from __future__ import annotations

from typing import Any

from accelerate.utils import set_seed
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback

from relax_rl.config import GuardConfig, SightConfig
from relax_rl.errors import ConfigError, RelaxError
from relax_rl.objectives import Objective
from relax_rl.rewards.functions import Rewards
from relax_rl.runs import RunDirectory
from relax_rl.training.notices import Notices
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.callbacks import MetricsFile
from relax_rl.training.trl.group_sampler import GroupSampler
from relax_rl.training.trl.image_watch import ImageWatch
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.rehearsal import rehearse_optimisation
from relax_rl.training.trl.reward_functions import paid_by
from relax_rl.training.trl.tracked import track
from relax_rl.training.trl.trainer import RelaxTrainer
from relax_rl.training.trl.what_ran import StartsFile

__all__ = ["run_trainer"]


def run_trainer(
    directory: RunDirectory,
    objective: Objective,
    rewards: Rewards,
    prompts: Dataset,
    model: Any,
    tokenizer: Any,
    args: Any,
    *,
    card: str,
    max_batches: int,
    branching: Branching | None,
    group_sampler: GroupSampler | None,
    guard: GuardConfig,
    notices: Notices,
    sight: SightConfig | None = None,
    most_prompt_tokens: int | None = None,
    peft_config: Any = None,
) -> RelaxTrainer:
    """A trainer that keeps its rollouts and metrics in the run directory; building it writes nothing there.

    Args:
        rewards: rewards of the training.
        prompts: see `prompt_dataset`.
        args: TRL's configuration, whose seed is set first.
        sight: see `ImageWatch`; None: it is not measured.
        card, max_batches, branching, group_sampler, guard, notices, most_prompt_tokens, peft_config: see
            `RelaxTrainer`.

    Raises:
        ConfigError: settings that TRL or the objective refuses.
    """
    functions, weights = paid_by(rewards)
    if weights is not None:
        if args.reward_weights is not None:
            raise ConfigError("The verifiers have a weight each; leave trainer.reward_weights out.")
        args.reward_weights = weights
    set_seed(args.seed)
    # Else the constructor makes the repository on the Hub, also for a rehearsal; `TrainingRun.train` does.
    pushes, args.push_to_hub = args.push_to_hub, False
    try:
        with directory.left_as_it_is():
            trainer = RelaxTrainer(
                objective=objective,
                recorder=RolloutRecorder(directory),
                card=card,
                max_batches=max_batches,
                branching=branching,
                group_sampler=group_sampler,
                guard=guard,
                notices=notices,
                most_prompt_tokens=most_prompt_tokens,
                model=model,
                args=args,
                processing_class=tokenizer,
                reward_funcs=functions,
                train_dataset=prompts,
                callbacks=[MetricsFile(directory)],
                peft_config=peft_config,
            )
            if sight is not None and sight.prompts:
                trainer.observe(ImageWatch(sight, trainer, shows="images" in prompts.column_names))
            rehearse_optimisation(trainer)
    except RelaxError:
        raise
    except (ImportError, ValueError) as error:
        tables = "'trainer'" if peft_config is None else "'trainer' or 'peft'"
        raise ConfigError(f"TRL refuses the settings under {tables}: {' '.join(str(error).split())}") from error
    trainer.run_facts = directory.facts
    trainer.add_callback(StartsFile(directory, trainer))
    track(trainer, directory)
    # Added by transformers where there are no bars; it prints every log to stdout.
    trainer.remove_callback(PrinterCallback)
    trainer.args.push_to_hub = pushes
    return trainer
