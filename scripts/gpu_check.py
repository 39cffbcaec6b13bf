"""What a CPU cannot say, in one run of under ten minutes on one H200-class card: make gpu-check.

    python scripts/gpu_check.py              on the first GPU; prints a table, writes build/gpu_check.json
    python scripts/gpu_check.py --dry-run    the same on the CPU at small sizes, to see that it runs

1. the share of an update that the terms of ReLaX take, at B = 64, T = 2048, H = 2048;
2. their peak memory, from hidden states and from lifted ones;
3. whether TF32, bfloat16 autocast and a bfloat16 model leave the dispersion alone;
4. a run of SmolLM2 with vLLM, where both are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
SMOLLM2_SECONDS = 240


@dataclass(frozen=True)
class Size:
    """B completions of T tokens, H wide, F observables; a model of some layers, in micro-batches."""

    completions: int
    tokens: int
    width: int
    observables: int
    layers: int
    vocabulary: int
    micro: int


FULL = Size(completions=64, tokens=2048, width=2048, observables=50, layers=24, vocabulary=32768, micro=4)
SMALL = Size(completions=4, tokens=96, width=32, observables=8, layers=2, vocabulary=64, micro=2)


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float | None
    unit: str
    note: str = ""


class Check:
    """The measurements on one device.

    Args:
        device: "cuda" or "cpu".
        size: what is measured.
    """

    def __init__(self, device: str, size: Size) -> None:
        from relax_rl.koopman import KoopmanDictionary

        self.device, self.size = torch.device(device), size
        generator = torch.Generator().manual_seed(0)
        weight = (torch.rand((size.width, size.observables), generator=generator) * 2 - 1) * size.width**-0.5
        self.dictionary = KoopmanDictionary(weight).to(self.device)
        noise = torch.randn((size.completions, size.tokens, size.width), generator=generator)
        self.states = (noise.cumsum(1) / 20).to(self.device, torch.bfloat16)

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """The shortest of some runs, the device's work included."""
        work()
        found: list[float] = []
        for _ in range(repeats):
            self._wait()
            start = time.perf_counter()
            work()
            self._wait()
            found.append(time.perf_counter() - start)
        return min(found)

    def peak(self, work: Callable[[], object]) -> float:
        """MiB above what was held before; 0 on a CPU, where `benchmarks/terms.py` measures it."""
        if self.device.type == "cpu":
            work()
            return 0.0
        self._wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self._wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def terms(self, *, is_lifted: bool) -> Callable[[], Tensor]:
        """Forward and backward of ReLaX's loss on the states of an update, as one batch."""
        from relax_rl.objectives import RolloutBatch, build_objective

        size, group = self.size, 4
        prompts = size.completions // group
        objective = build_objective("relax", xi=1.0, dictionary=self.dictionary)
        assert objective.probe is not None
        shape = (prompts, group, size.tokens)
        log_probs = torch.full(shape, -1.0, device=self.device)
        rewards = (torch.arange(size.completions, device=self.device) % 2).float().view(prompts, group)
        given = objective.probe.lifted_columns(self.states) if is_lifted else self.states
        states = given.detach().view(*shape, -1).requires_grad_()
        fields: dict[str, Any] = {"lifted_states" if is_lifted else "hidden_states": states}
        mask = torch.ones(shape, dtype=torch.bool, device=self.device)
        batch = RolloutBatch(
            log_probs.requires_grad_(), log_probs.detach(), mask, rewards, log_probs.detach(), **fields
        )
        return lambda: torch.autograd.grad(objective(batch).loss, states)[0]

    def update_seconds(self) -> float:
        """Forward and backward of a model of this width over the completions, with checkpointing, micro by micro."""
        from transformers import Qwen2Config, Qwen2ForCausalLM

        size = self.size
        config = Qwen2Config(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=4 * size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=max(size.width // 128, 2),
            num_key_value_heads=max(size.width // 128, 2),
        )
        with self.device:
            model: Any = Qwen2ForCausalLM(config)
        model = model.to(torch.bfloat16)
        model.gradient_checkpointing_enable()
        model.train()
        ids = torch.randint(0, size.vocabulary, (size.micro, size.tokens), device=self.device)

        def one() -> None:
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

        return self.seconds(one, 2) * size.completions / size.micro

    def differences(self) -> dict[str, float]:
        """Largest relative difference of the dispersion under each precision from the plain one."""
        from relax_rl.koopman import dynamic_spectral_dispersion

        states = self.states[: self.size.micro].float()
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=self.device)

        def measured(given: Tensor) -> Tensor:
            return dynamic_spectral_dispersion(given, mask, self.dictionary).values

        torch.set_float32_matmul_precision("highest")
        plain = measured(states)
        torch.set_float32_matmul_precision("high")
        found = {"TF32 allowed": measured(states)}
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            found["bfloat16 autocast"] = measured(states)
        found["states in bfloat16"] = measured(states.bfloat16())
        return {name: float(((value - plain) / plain).abs().max()) for name, value in found.items()}


def figures(check: Check) -> list[Figure]:
    """Everything but the run of SmolLM2."""
    from_hidden, from_lifted = check.terms(is_lifted=False), check.terms(is_lifted=True)
    own, update = check.seconds(from_hidden), check.update_seconds()
    found = [
        Figure("terms of ReLaX, forward and backward", own, "s"),
        Figure("update of a model of this width", update, "s", "forward and backward, checkpointed, bfloat16"),
        Figure("share of the update", own / (own + update), "", "the paper: +10 to +45 % of the update"),
        Figure("peak of the terms from hidden states", check.peak(from_hidden), "MiB"),
        Figure("peak of the terms from lifted states", check.peak(from_lifted), "MiB"),
    ]
    for name, difference in check.differences().items():
        found.append(Figure(f"dispersion, {name}", difference, "relative difference"))
    return found


def smollm2_run(*, is_dry: bool) -> Figure:
    """Two updates of SmolLM2 with rollouts by vLLM, by the command line."""
    name = "SmolLM2 with vLLM, two updates"
    from relax_rl.training.models import SMOLLM2_DIRECTORY

    missing = [] if importlib.util.find_spec("vllm") else ["vLLM is not installed"]
    missing += [] if Path(SMOLLM2_DIRECTORY).is_dir() else ["SmolLM2 is not there (make smollm2)"]
    words = ["--model", "smollm2", "--trainer.use_vllm", "true", "--trainer.vllm_mode", "colocate"]
    words += ["--trainer.max_steps", "2", "--evaluation.enabled", "false", "--overwrite"]
    words += ["--output", str(ROOT / "build/gpu_check_run")]
    command = [sys.executable, "-m", "relax_rl.cli.main", "train", "countdown", *words]
    if missing or is_dry:
        return Figure(name, None, "s", f"not run: {'; '.join(missing) or 'dry run'}")
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SMOLLM2_SECONDS, check=False)
    note = "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    return Figure(name, time.perf_counter() - start, "s", note)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 0 unless a precision moved the dispersion or there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, at small sizes")
    parser.add_argument("--output", type=Path, default=ROOT / "build/gpu_check.json")
    arguments = parser.parse_args(argv)
    if not arguments.dry_run and not torch.cuda.is_available():
        print("gpu-check: there is no GPU that torch can use; --dry-run runs it on the CPU", file=sys.stderr)
        return 2
    device, size = ("cpu", SMALL) if arguments.dry_run else ("cuda", FULL)
    found = [*figures(Check(device, size)), smollm2_run(is_dry=arguments.dry_run)]
    for figure in found:
        value = "-" if figure.value is None else f"{figure.value:.4g}"
        print(f"{figure.name:44} {value:>12} {figure.unit:20} {figure.note}")
    hardware = "CPU, dry run" if arguments.dry_run else torch.cuda.get_device_name()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept = {"hardware": hardware, "torch": torch.__version__, "size": asdict(size), "figures": list(map(asdict, found))}
    arguments.output.write_text(json.dumps(kept, indent=2) + "\n")
    moved = [one.name for one in found if one.unit == "relative difference" and "states" not in one.name and one.value]
    if moved:
        print(f"gpu-check: {', '.join(moved)} moved the dispersion", file=sys.stderr)
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
