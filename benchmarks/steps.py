"""A whole training step, rollouts included: our GRPO against TRL's own `GRPOTrainer`, and ReLaX against our GRPO.

python benchmarks/suite.py --only steps

Same policy, problems, verifier, batch, learning rate and number of threads, each in a process on a core of its own, two
at once. Ours is `relax train` with all that it writes; TRL's is its trainer with the same settings and the verifier as
a reward function. A step is timed from the end of one update to the end of the next, in processor seconds; the first is
not counted, since it fits the dictionary. Completions differ, since every side draws other random numbers.

ReLaX has a KL to a reference policy, whose forward over all completions is most of what it adds. So it is measured
against GRPO without a KL and against GRPO with one, and the forward of the reference apart.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from frame.rows import Effort, Row, row_of_times
from frame.timing import ApartError, Times, apart, at_once
from relax_rl.latent.contract.files import SMOLLM2_DIRECTORY

__all__ = ["rows"]

OURS: dict[str, dict[str, Any]] = {
    "grpo": {"objective.name": "grpo"},
    "grpo with KL": {"objective.name": "grpo", "objective.beta": 0.01},
    "relax": {"objective.name": "relax", "objective.xi": "quantile:0.9"},
}
Pair = tuple[str, str]

PAIRS: tuple[Pair, ...] = (("grpo", "stock"), ("relax", "grpo"), ("relax", "grpo with KL"))
"""Which sides run at once, ours and the one that it is measured against."""


@dataclass(frozen=True)
class Step:
    """Medians over the steps of a run, in processor seconds.

    Attributes:
        seconds: of a step.
        reference: of it the forward of the reference policy.
    """

    seconds: float
    reference: float = 0.0


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Attributes:
        name: of the row.
        model: "tiny" or "smollm2".
        group: G.
        micro_batch: completions of a forward.
        accumulation: micro-batches of an update.
        length: `max_completion_length`.
        updates: that are timed.
        rounds: at most so many.
    """

    name: str
    model: str
    group: int
    micro_batch: int
    accumulation: int
    length: int
    updates: int
    rounds: int

    @property
    def settings(self) -> dict[str, Any]:
        """For `relax train`."""
        return {
            "model": self.model,
            "monitor": False,
            "dictionary.num_observables": 16,
            "train_problems": 512,
            "evaluation.enabled": False,
            "trainer.max_steps": self.updates + 1,
            "trainer.num_generations": self.group,
            "trainer.per_device_train_batch_size": self.micro_batch,
            "trainer.gradient_accumulation_steps": self.accumulation,
            "trainer.max_completion_length": self.length,
            "trainer.learning_rate": 1e-6,
            "trainer.save_steps": 1000,
        }


EMBEDDED = Setup("embedded policy, 256 x 96", "tiny", 16, 64, 4, 96, 4, 4)
SMOLLM2 = Setup("SmolLM2-135M, 8 x 256", "smollm2", 8, 8, 1, 256, 1, 1)


def ours(setup: Setup, method: Mapping[str, Any], core: int) -> Step:
    """A step of `relax train` by one of `OURS`."""
    _take(core)
    import relax_rl
    from relax_rl.training.trl.rollouts import RolloutTrainer

    times: list[float] = []
    spent: list[float] = []
    # On policy, TRL asks for log-probabilities outside the loss for the reference alone.
    score = RolloutTrainer._get_per_token_logps_and_entropies  # pyright: ignore[reportPrivateUsage]

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return score(*args, **kwargs)
        finally:
            spent[-1] += 0.0 if kwargs.get("compute_entropy") else time.process_time() - start

    def note(progress: relax_rl.Progress) -> None:
        if progress.stage == "training" and progress.metrics:
            times.append(time.process_time())
            spent.append(0.0)

    spent.append(0.0)
    settings = setup.settings | dict(method)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(RolloutTrainer, "_get_per_token_logps_and_entropies", timed),
    ):
        relax_rl.train("countdown", overrides={**settings, "output": f"{folder}/run"}, on_progress=note)
    return Step(_step(times), median(spent[1:-1]))


def stock(setup: Setup, core: int) -> Step:
    """A step of `trl.GRPOTrainer`, which has no KL and hence no reference."""
    _take(core)
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOTrainer

    from relax_rl.config import load_config
    from relax_rl.tasks.countdown import CountdownTask
    from relax_rl.training.models import load_model
    from relax_rl.training.trl.config import grpo_config
    from relax_rl.training.trl.dataset import prompt_dataset

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

    config, task = load_config("countdown", setup.settings | OURS["grpo"]), CountdownTask()
    model, tokenizer = load_model(setup.model)

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float | None]:
        texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
        return list(task.verifier.score(texts, answer))

    with tempfile.TemporaryDirectory() as folder:
        args = grpo_config(config.trainer, Path(folder), use_cpu=True, beta=0.0)
        trainer = GRPOTrainer(
            model=model,
            args=args,
            processing_class=tokenizer,
            reward_funcs=[reward],  # type: ignore[arg-type]
            train_dataset=prompt_dataset(task.problems("train", config.train_problems), tokenizer),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Step(_step(times))


@dataclass(frozen=True)
class Arithmetic:
    """What a step cannot leave out, in processor seconds, measured without a trainer.

    Attributes:
        update: loss, backward and optimiser step.
        decoding: the model's forward with a cache for every token of every row; no token is drawn.
        terms: terms of ReLaX alone, forward and backward, of all micro-batches.
    """

    update: float
    decoding: float
    terms: float


def arithmetic(setup: Setup, core: int) -> Arithmetic:
    """The arithmetic of a step of this size."""
    _take(core)
    import torch
    from transformers import DynamicCache

    from relax_rl.objectives import build_objective
    from update import Bench, Size

    def shortest(work: Callable[[], object], rounds: int = 3) -> float:
        times = Times()
        for _ in range(rounds + 1):
            times.take(work)
        return min(times.processor)

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Size(setup.model, setup.micro_batch, 24, setup.length, 1.0), folder)
        bench.objectives["relax"] = build_objective(
            "relax", beta=0.0, xi="quantile:0.9", dictionary={"num_observables": 16}
        )
        bench.calibrate()
        terms = shortest(partial(bench.objective_alone, "relax")) - shortest(partial(bench.objective_alone, "grpo"))
        update = shortest(partial(bench.update, "grpo"))
        model, rows = bench.trainer.model.eval(), setup.micro_batch * setup.accumulation

        @torch.no_grad()
        def decode() -> None:
            cache = DynamicCache(config=model.config)
            token = torch.zeros((rows, 1), dtype=torch.long)
            for _ in range(setup.length):
                model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)

        decoding = shortest(decode, rounds=1)
    return Arithmetic(setup.accumulation * update, decoding, setup.accumulation * terms)


def _take(core: int) -> None:
    os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)


def _step(times: list[float]) -> float:
    return median(after - before for before, after in itertools.pairwise(times))


def rows(effort: Effort) -> Iterator[Row]:
    """Our step in that of stock TRL, and that of ReLaX in ours, on the embedded policy and on SmolLM2."""
    yield from rows_of(EMBEDDED, PAIRS[:1] if effort.is_quick else PAIRS, 1 if effort.is_quick else EMBEDDED.rounds)
    if effort.is_quick:
        return
    if not (SMOLLM2_DIRECTORY / "model.safetensors").is_file():
        raise ApartError(f"SmolLM2's steps need {SMOLLM2_DIRECTORY}; call make smollm2")
    yield from rows_of(SMOLLM2, PAIRS[:2], SMOLLM2.rounds)


def rows_of(setup: Setup, pairs: tuple[Pair, ...], rounds: int) -> Iterator[Row]:
    """A row for each pair, on one policy."""
    least = apart(arithmetic, setup, 0, limit=1800.0)
    works = {name: partial(ours, setup, method) for name, method in OURS.items()} | {"stock": partial(stock, setup)}
    for pair in pairs:
        mine, other = list[Step](), list[Step]()
        for number in range(rounds):
            turned = pair if number % 2 == 0 else pair[::-1]
            for found in at_once({name: partial(_apart, works[name]) for name in turned}, 1):
                mine.append(found[pair[0]])
                other.append(found[pair[1]])
        yield _row(setup, pair, mine, other, least)


def _row(setup: Setup, pair: Pair, mine: list[Step], other: list[Step], least: Arithmetic) -> Row:
    ours, theirs = (Times(processor=[step.seconds for step in steps]) for steps in (mine, other))
    if pair == ("grpo", "stock"):
        share = 100 * (least.update + least.decoding) / ours.median
        bound = (
            f"loss, backward and optimiser step take {least.update:.1f} s by themselves, and the forward of "
            f"{setup.length} tokens with a cache {least.decoding:.1f} s more, without a draw: {share:.0f} % of our "
            "step is the model's own arithmetic in transformers"
        )
        floor = (least.update + least.decoding) / theirs.median
        return row_of_times(setup.name, ours, theirs, "trl.GRPOTrainer", target=0.8, bound=bound, floor=floor)
    name = f"ReLaX, {setup.name}"
    if pair == ("relax", "grpo with KL"):
        share = least.terms / theirs.median
        bound = (
            f"the terms of ReLaX alone, forward and backward without the model, take {least.terms:.2f} s, "
            f"{100 * share:.1f} % of the step"
        )
        against = "our GRPO with the same KL"
        return row_of_times(name, ours, theirs, against, target=1.03, bound=bound, floor=1 + share)
    share = median(step.reference / base.seconds for step, base in zip(mine, other, strict=True))
    bound = (
        "the forward of the reference policy over all completions, which GRPO without a KL does not have, takes "
        f"{median(step.reference for step in mine):.2f} s, {100 * share:.0f} % of its step; the metric kl is of all "
        "completions"
    )
    return row_of_times(name, ours, theirs, "our GRPO without a KL", target=1.03, bound=bound, floor=1 + share)


def _apart(work: partial[Step], core: int) -> Step:
    return apart(work, core, limit=1800.0)
