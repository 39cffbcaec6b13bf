"""Rollouts of the tiny policy: our sampler against `generate`, which settings of that are fastest, and where time goes.

python benchmarks/suite.py --only rollouts   our sampler against `generate`
python benchmarks/rollouts.py                all settings of `generate`, then the profile

256 completions of countdown, as one update of ``relax train countdown`` draws them: 16 prompts, 16 of each, decoded by
TRL's own generation config (`GRPOTrainer.generation_config`, which switches compilation off). The settings differ in
the cache, in the attention, and in how many rows are decoded together; all draw from the same seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.generation import utils as generation
from transformers.models.llama import modeling_llama
from trl import GRPOTrainer

from frame.rows import Effort, Row, row_of_times
from frame.timing import ApartError, in_turn
from relax_rl.config import TrainConfig, load_config
from relax_rl.evaluation.prompts import encode_prompt, left_pad
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.models import SMOLLM2_DIRECTORY, load_model
from relax_rl.training.trl.config import grpo_config
from relax_rl.training.trl.dataset import prompt_dataset


@dataclass(frozen=True)
class Setting:
    """One way to call ``generate``.

    Attributes:
        cache: TRL's ``cache_implementation``; None is the default, a cache that grows by concatenation.
        attention: ``attn_implementation`` of the model.
        chunk: rows decoded together; None is all of them.
    """

    cache: str | None
    attention: str
    chunk: int | None = None

    def __str__(self) -> str:
        rows = "" if self.chunk is None else f", {self.chunk} rows at once"
        return f"generate, {self.cache or 'default'} cache, {self.attention}{rows}"


BASE = Setting(None, "sdpa")
SETTINGS = (
    BASE,
    Setting("static", "sdpa"),
    Setting(None, "eager"),
    Setting("static", "eager"),
    Setting("static", "sdpa", chunk=64),
)
SMOLLM2 = {
    "trainer.num_generations": 8,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 256,
}
OWN = "relax_rl.evaluation.samplers.transformers"


class Rollouts:
    """A policy, the prompts of one update, and TRL's generation config for each cache.

    Args:
        folder: of the trainers that the generation configs come from.
        model: "tiny" or "smollm2".
        settings: of the run; those of the shipped config by default.
    """

    def __init__(self, folder: str, model: str = "tiny", settings: dict[str, Any] | None = None) -> None:
        self.config = load_config("countdown", settings or {})
        self.model: Any
        self.tokenizer: Any
        self.model, self.tokenizer = load_model(model)
        task, trainer = CountdownTask(), self.config.trainer
        self.group = trainer.num_generations
        num_rows = trainer.per_device_train_batch_size * trainer.gradient_accumulation_steps
        problems = task.problems("train", num_rows // self.group)
        self.prompts = [encode_prompt(self.tokenizer, problem) for problem in problems]
        dataset = prompt_dataset(problems, self.tokenizer)
        self.generation_configs = {
            cache: self._trainer(self.config, cache, dataset, folder).generation_config
            for cache in {setting.cache for setting in SETTINGS}
        }
        self.model.eval()

    def _trainer(self, config: TrainConfig, cache: str | None, dataset: Any, folder: str) -> GRPOTrainer:
        settings = config.trainer.model_copy(update={"cache_implementation": cache})
        args = grpo_config(settings, Path(folder), use_cpu=True)

        def no_reward(completions: list[str], **_: Any) -> list[float]:
            raise AssertionError("nothing is scored here")

        return GRPOTrainer(
            model=self.model,
            args=args,
            processing_class=self.tokenizer,
            reward_funcs=[no_reward],  # type: ignore[arg-type]
            train_dataset=dataset,
        )

    def generate(self, setting: Setting, prompts: Sequence[Sequence[int]] = (), group: int = 0) -> list[Tensor]:
        """Completions (rows, T) of each chunk; of all prompts, as an update draws them, or of these."""
        self.model.set_attn_implementation(setting.attention)
        torch.manual_seed(0)
        wanted = [prompt for prompt in prompts or self.prompts for _ in range(group or self.group)]
        ids, mask = left_pad(wanted, self.model.device)
        chunk = setting.chunk or len(ids)
        config = self.generation_configs[setting.cache]
        with torch.no_grad():
            parts = [
                self.model.generate(input_ids=a, attention_mask=b, generation_config=config)
                for a, b in zip(ids.split(chunk), mask.split(chunk), strict=True)
            ]
        return [part[:, ids.shape[1] :] for part in parts]

    def sample(self, prompts: Sequence[Sequence[int]] = (), group: int = 0) -> int:
        """The same number of completions by our own loop; how many tokens were drawn."""
        prompts, group = prompts or self.prompts, group or self.group
        self.model.set_attn_implementation("sdpa")
        drawn = sample_completions(
            self.model,
            self.tokenizer,
            prompts,
            group,
            max_completion_length=self.config.trainer.max_completion_length,
            batch_size=len(prompts) * group,
        )
        return sum(completion.num_tokens for row in drawn for completion in row)


# --- time ----------------------------------------------------------------------------------------------------------


def rows(effort: Effort) -> Iterator[Row]:
    """Our sampler against TRL's `generate`: the rollouts of an update, and many samples of few problems."""
    with tempfile.TemporaryDirectory() as folder:
        rollouts = Rollouts(folder)
        times = in_turn({"generate": lambda: rollouts.generate(BASE), "ours": rollouts.sample}, effort.rounds)
        title = f"embedded policy, {len(rollouts.prompts)} prompts x {rollouts.group}"
        yield row_of_times(title, times["ours"], times["generate"], "generate, default cache", target=0.5)
        few = rollouts.prompts[:4]
        sides = {
            "calls": lambda: [rollouts.generate(BASE, few, 1) for _ in range(32)],
            "ours": lambda: rollouts.sample(few, 32),
        }
        times = in_turn(sides, min(effort.rounds, 5))
        yield row_of_times("evaluation, 4 problems x 32", times["ours"], times["calls"], "32 calls", target=0.25)
    if effort.is_quick:
        return
    if not (SMOLLM2_DIRECTORY / "model.safetensors").is_file():
        raise ApartError(f"SmolLM2's rollouts need {SMOLLM2_DIRECTORY}; call make smollm2")
    with tempfile.TemporaryDirectory() as folder:
        rollouts = Rollouts(folder, "smollm2", SMOLLM2)
        times = in_turn({"generate": lambda: rollouts.generate(BASE), "ours": rollouts.sample}, 2)
        yield row_of_times(
            "SmolLM2-135M, 8 x 256", times["ours"], times["generate"], "generate, default cache", target=0.75
        )


def print_settings(rollouts: Rollouts, repeats: int, threads: list[int]) -> None:
    """Every setting under every number of threads; medians, and shares of the first row."""
    num_rows = len(rollouts.prompts) * rollouts.group
    print(f"{num_rows} completions of at most {rollouts.config.trainer.max_completion_length} tokens, {repeats} rounds")
    print(f"{'threads':7}  {'':46} {'wall s':>7} {'cpu s':>7}   wall, cpu: share of the first row")
    for number in threads:
        torch.set_num_threads(number)
        sides: dict[str, Callable[[], object]] = {
            str(setting): lambda setting=setting: rollouts.generate(setting) for setting in SETTINGS
        }
        times = in_turn(sides | {OWN: rollouts.sample}, repeats)
        for name, found in times.items():
            wall, processor = (median(found.wall), median(found.processor))
            first = times[str(BASE)]
            shares = (wall / median(first.wall), processor / median(first.processor))
            print(f"{number:7}  {name:46} {wall:7.2f} {processor:7.2f}   {shares[0]:5.2f} {shares[1]:5.2f}")
    print(flush=True)


# --- profile -------------------------------------------------------------------------------------------------------

STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "keys and values into the cache": ((cache_utils.DynamicLayer, "update"), (cache_utils.StaticLayer, "update")),
    "attention": ((torch.nn.functional, "scaled_dot_product_attention"),),
    "matrix products": ((torch.nn.functional, "linear"),),
    "rotary positions": ((modeling_llama, "apply_rotary_pos_emb"),),
    "attention mask": ((modeling_llama, "create_causal_mask"), (generation, "create_masks_for_generate")),
    "drawing tokens": ((torch, "multinomial"),),
}
"""Functions whose time is taken; none calls another of them."""


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Seconds spent in each stage while the block runs."""
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - start

        return wrapper

    with ExitStack() as stack:
        for stage, places in STAGES.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        yield seconds


def profile(rollouts: Rollouts, repeats: int, threads: int) -> None:
    """Share of each stage, one column a cache; the median over rounds."""
    torch.set_num_threads(threads)
    columns = [setting for setting in SETTINGS if setting.attention == "sdpa" and setting.chunk is None]
    shares: dict[Setting, dict[str, list[float]]] = {setting: {} for setting in columns}
    for _ in range(repeats):
        for setting in columns:
            with stopwatch() as seconds:
                start = time.perf_counter()
                rollouts.generate(setting)
                total = time.perf_counter() - start
            seconds = seconds | {"everything else": total - sum(seconds.values()), "in all, s": None}
            for stage, value in seconds.items():
                share = total if value is None else value / total
                shares[setting].setdefault(stage, []).append(share)
    print(f"where the time of generate goes, {threads} threads, share of the wall-clock time")
    print(f"{'':32}" + "".join(f"{setting.cache or 'default'} cache".rjust(16) for setting in columns))
    for stage in shares[columns[0]]:
        print(f"{stage:32}" + "".join(f"{median(shares[setting][stage]):16.2f}" for setting in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to compare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rollouts = Rollouts(folder)
        print_settings(rollouts, arguments.repeats, arguments.threads)
        profile(rollouts, arguments.repeats, arguments.threads[0])


if __name__ == "__main__":
    main()
