"""What ReLaX adds to an update: loss, backward and optimiser step of SmolLM2-135M, by three losses in turn.

python benchmarks/update.py                 time and peak memory
python benchmarks/update.py --threads 1     on a machine that is busy with other work

TRL's own GRPO, ours, and ReLaX take turns in one process, on the same model, optimiser and synthetic rollout batch.
Nothing is generated and beta is 0 for all: the completions and the reference model's log-probabilities belong to the
rollout, which all methods share. Activation checkpointing is off. Peak memory is that of a process for each loss.
Without models/smollm2 a random model of the same shape stands in; speed does not depend on the weights.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from trl import GRPOTrainer

from relax_rl.objectives import RolloutBatch, build_objective
from relax_rl.training.models import SMOLLM2_DIRECTORY, load_model, load_tokenizer
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer

GROUP, PROMPT, TARGET = 8, 64, 1.05
LOSSES = ("trl grpo", "grpo", "relax")


def policy() -> tuple[PreTrainedModel, str]:
    """SmolLM2-135M, or a random model of its shape, and what to call it."""
    if (SMOLLM2_DIRECTORY / "model.safetensors").is_file():
        return load_model("smollm2")[0], "SmolLM2-135M-Instruct"
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(shape), "a random model of SmolLM2-135M's shape"


def no_reward(completions: list[str], **_: Any) -> list[float]:
    """Never called: the rollout batch brings its rewards."""
    raise AssertionError("nothing is generated here")


def rollout(vocabulary: int, length: int) -> dict[str, Any]:
    """One group of completions of ``length`` tokens, half of them right, as TRL hands them to ``compute_loss``."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.arange(GROUP) % 2
    advantages = (rewards - rewards.float().mean()) / (rewards.float().std() + 1e-4)
    prompt, completion = (
        torch.randint(vocabulary, (GROUP, tokens), generator=generator) for tokens in (PROMPT, length)
    )
    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": torch.ones_like(completion),
        "advantages": advantages,
        "rewards": rewards.float(),
        "num_items_in_batch": torch.tensor(float(completion.numel())),
        "num_update_tokens": float(completion.numel()),
    }


class Bench:
    """One model and one optimiser, stepped by whichever loss is asked for."""

    def __init__(self, length: int, folder: str) -> None:
        model, self.model_name = policy()
        args = RelaxConfig(
            output_dir=folder,
            per_device_train_batch_size=GROUP,
            num_generations=GROUP,
            max_completion_length=length,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=False,
            report_to="none",
        )
        self.objectives = {
            "grpo": build_objective("grpo"),
            "relax": build_objective("relax", beta=0.0, xi="quantile:0.9"),
        }
        self.trainer = RelaxTrainer(
            objective=self.objectives["grpo"],
            model=model,
            args=args,
            processing_class=load_tokenizer("tiny"),
            reward_funcs=[no_reward],
            train_dataset=Dataset.from_list([{"prompt": "1"}]),
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.trainer.model.train()
        self.trainer.create_optimizer()
        self.batch = rollout(model.config.vocab_size, length)

    def calibrate(self) -> float:
        """Fit the dictionary and xi on the batch, once, as a run does before its first update; the seconds it took."""
        start = time.perf_counter()
        self.trainer.objective = self.objectives["relax"]
        self.trainer._calibrate([self.batch])
        self.objectives["relax"] = self.trainer.objective
        return time.perf_counter() - start

    def update(self, loss: str) -> Tensor:
        """One whole update by one of ``LOSSES``; its loss."""
        trainer = self.trainer
        compute = GRPOTrainer.compute_loss if loss == "trl grpo" else RelaxTrainer.compute_loss
        trainer.objective = self.objectives.get(loss, self.objectives["grpo"])
        value = compute(trainer, trainer.model, self.batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        assert isinstance(trainer.optimizer, torch.optim.Optimizer)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return value.detach()

    def objective_alone(self, loss: str) -> None:
        """Loss and backward of our objective on ready log-probabilities and states, without the model."""
        model, length = self.trainer.model, self.batch["completion_ids"].shape[1]
        generator = torch.Generator().manual_seed(1)
        states = torch.randn((1, GROUP, length, model.config.hidden_size), generator=generator).requires_grad_()
        log_probs = (-torch.rand((1, GROUP, length), generator=generator)).requires_grad_()
        batch = RolloutBatch(
            log_probs=log_probs,
            old_log_probs=log_probs.detach(),
            mask=torch.ones((1, GROUP, length), dtype=torch.bool),
            rewards=self.batch["rewards"].unflatten(0, (1, GROUP)),
            hidden_states=states,
        )
        self.objectives[loss](batch).loss.backward()


@dataclass
class Times:
    """Wall-clock seconds, and processor seconds, which other programs on the machine disturb less."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def take(self, work: Any) -> None:
        """Run ``work`` and note how long it took."""
        wall, processor = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def compare_time(repeats: int, length: int) -> None:
    """Rounds of the three losses, and the median over rounds of each one's ratio to the others of its round."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(length, folder)
        calibration = bench.calibrate()
        times = {loss: Times() for loss in LOSSES}
        for loss in LOSSES:
            bench.update(loss)
        for round_number in range(repeats):
            # A new order every round, so that none is always first after the same neighbour.
            for place in range(len(LOSSES)):
                loss = LOSSES[(place + round_number) % len(LOSSES)]
                times[loss].take(partial(bench.update, loss))
            last = ", ".join(f"{loss} {times[loss].wall[-1]:.1f} ({times[loss].processor[-1]:.1f})" for loss in LOSSES)
            print(f"round {round_number + 1}: {last} s wall (cpu)", flush=True)
        alone = {loss: Times() for loss in ("grpo", "relax")}
        for _ in range(4 * repeats):
            for loss, taken in alone.items():
                taken.take(partial(bench.objective_alone, loss))
    print(
        f"{bench.model_name}, {GROUP} completions x {length} tokens after prompts of {PROMPT}, float32, "
        f"{torch.get_num_threads()} threads, {repeats} rounds"
    )
    print(f"{'update by':10} {'wall s':>8} {'cpu s':>8}   of TRL's GRPO (wall, cpu)   of our GRPO (wall, cpu)")
    for loss in LOSSES:
        cells = [median(times[loss].wall), median(times[loss].processor)]
        for base in ("trl grpo", "grpo"):
            cells += [ratio(times[loss].wall, times[base].wall), ratio(times[loss].processor, times[base].processor)]
        print(
            f"{loss:10} {cells[0]:8.2f} {cells[1]:8.2f}   {cells[2]:13.3f} {cells[3]:10.3f} "
            f"{cells[4]:14.3f} {cells[5]:8.3f}"
        )
    print(f"spread of the ratio of relax to TRL's GRPO over rounds, cpu: {spread(times)}")
    added = median(alone["relax"].processor) - median(alone["grpo"].processor)
    share = added / median(times["trl grpo"].processor)
    print(f"the terms of ReLaX alone, forward and backward: {added:.3f} cpu s, {share:.4f} of an update of TRL's GRPO")
    print(f"once a run: forward, fit of the dictionary and xi {calibration:.2f} s\n", flush=True)


def ratio(ours: list[float], base: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return median(a / b for a, b in zip(ours, base, strict=True))


def spread(times: dict[str, Times]) -> str:
    """Smallest and largest ratio."""
    ratios = [a / b for a, b in zip(times["relax"].processor, times["trl grpo"].processor, strict=True)]
    return f"{min(ratios):.3f} to {max(ratios):.3f} (target: median <= {TARGET})"


def compare_memory(repeats: int, length: int, threads: int) -> None:
    """Peak resident memory of processes that each know one loss alone."""
    command = [sys.executable, __file__, "--length", str(length), "--threads", str(threads), "--peak"]
    peaks: dict[str, list[float]] = {loss: [] for loss in LOSSES}
    for _ in range(repeats):
        for loss in LOSSES:
            done = subprocess.run([*command, loss], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"the process that measures {loss} failed:\n{done.stderr}")
            peaks[loss].append(float(done.stdout.split()[-1]))
    print(f"{'peak of':10} {'MiB':>8}   of TRL's GRPO   of our GRPO   (median of {repeats} processes each)")
    for loss in LOSSES:
        own, trl, grpo = (median(peaks[name]) for name in (loss, "trl grpo", "grpo"))
        print(f"{loss:10} {own:8.0f}   {own / trl:13.3f}   {own / grpo:11.3f}")
    print(f"target for relax: <= {TARGET}")


def print_peak(loss: str, length: int) -> None:
    """Two updates by one loss, then the peak resident memory of this process in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(length, folder)
        if loss == "relax":
            bench.calibrate()
        for _ in range(2):
            bench.update(loss)
    print(peak_memory())


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux's ru_maxrss also remembers the process that forked this one, before it became another program.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10  # type: ignore[index]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the timing")
    parser.add_argument("--processes", type=int, default=2, help="processes for each loss that measure memory; 0: none")
    parser.add_argument("--length", type=int, default=256, help="tokens of a completion")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peak", choices=LOSSES, help="print this process's peak memory under one loss, and nothing else"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print_peak(arguments.peak, arguments.length)
        return
    if arguments.repeats:
        compare_time(arguments.repeats, arguments.length)
    if arguments.processes:
        compare_memory(arguments.processes, arguments.length, arguments.threads)


if __name__ == "__main__":
    main()
