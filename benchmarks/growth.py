"""How time and memory grow: dispersion, update, rollout, evaluation and verifier against what they work on.

python benchmarks/suite.py --only growth

Sizes double; the exponent is the slope between the largest ones on two log axes, where what is paid once matters
least. An exponent of 1 is twice the work for twice the size. Time is the shortest processor time of some runs, in a
process whose allocator keeps what is freed: otherwise every tensor beyond some 32 MB is made of fresh pages, which the
system fills with zeros first, and the largest size alone pays for that. Memory is what a size holds at its peak above
what the process held before, in a process whose allocator returns what is freed, so that a peak is not hidden behind an
earlier one.
"""

from __future__ import annotations

import gc
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frame.rows import Effort, Row
from frame.timing import stream_apart

Work = Callable[[], object]


@dataclass(frozen=True)
class Growth:
    """One cost against one size.

    Attributes:
        work: makes the work of a size; what it prepares is not measured.
        sizes: rising.
        time: the exponent that time should have at most.
        memory: the same of memory.
        why: where the exponents come from.
    """

    work: Callable[[int], Work]
    sizes: tuple[int, ...]
    time: float
    memory: float
    why: str


def dispersion(B: int = 16, T: int = 256, H: int = 128, F: int = 32) -> Work:
    """Forward and backward of `paper` from hidden states (B, T, H) with F observables."""
    from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion

    generator = torch.Generator().manual_seed(0)
    states = torch.randn((B, T, H), generator=generator).requires_grad_()
    dictionary = KoopmanDictionary((torch.rand((H, F), generator=generator) * 2 - 1) * H**-0.5)
    mask = torch.ones((B, T), dtype=torch.bool)

    def work() -> None:
        states.grad = None
        dynamic_spectral_dispersion(states, mask, dictionary, "paper").values.sum().backward()

    return work


def update(completions: int = 32, length: int = 96) -> Work:
    """Loss by ReLaX, backward and optimiser step of the embedded policy."""
    from update import Bench, Size

    folder = tempfile.TemporaryDirectory()
    bench = Bench(Size("tiny", completions, 24, length, 1.0), folder.name)
    bench.calibrate()
    bench.update("relax")  # the optimiser's state comes with the first step

    def work() -> object:
        assert folder
        return bench.update("relax")

    return work


def rollout(prompts: int = 8, group: int = 8, length: int = 32) -> Work:
    """Completions of the embedded policy, none of which ends before the longest length."""
    from relax_rl.evaluation.prompts import encode_prompt
    from relax_rl.evaluation.samplers.transformers import sample_completions, stop_token_ids
    from relax_rl.tasks.countdown import CountdownTask
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    stops = sorted(stop_token_ids(model, tokenizer))

    def never_stop(_: Any, __: Any, output: Any) -> None:
        output.logits[..., stops] = -1e9

    model.register_forward_hook(never_stop)
    encoded = [encode_prompt(tokenizer, problem) for problem in CountdownTask().problems("train", prompts)]
    count = prompts * group
    return lambda: sample_completions(model, tokenizer, encoded, group, max_completion_length=length, batch_size=count)


def evaluation(problems: int = 8) -> Work:
    """Sampling, grading, measuring and the bootstrap of countdown with the embedded policy, in batches of 64."""
    from relax_rl.evaluation.runner import evaluate
    from relax_rl.tasks.countdown import CountdownTask
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    return lambda: evaluate(
        model, tokenizer, CountdownTask(), num_problems=problems, num_samples=8, max_completion_length=48, batch_size=64
    )


def verifier(answers: int = 100) -> Work:
    """Ordinary answers, graded by one worker."""
    from relax_rl.rewards import MathVerifier
    from verifier import ordinary_rows

    grader, rows = MathVerifier(num_workers=1), ordinary_rows(answers)
    completions, golds = [row.completion for row in rows], [row.gold for row in rows]
    return lambda: grader.score(completions, golds)


def verifier_length(repeats: int = 100) -> Work:
    """Long completions: prose before one answer."""
    from relax_rl.rewards import MathVerifier
    from verifier import PROSE, boxed

    grader = MathVerifier(num_workers=1)
    completions = [PROSE * repeats + boxed(str(number)) for number in range(8)]
    return lambda: grader.score(completions, ["7"] * 8)


GROWTH: dict[str, Growth] = {
    "dispersion, B": Growth(lambda n: dispersion(B=n), (32, 64, 128, 256), 1, 1, "trajectories are independent"),
    "dispersion, T": Growth(lambda n: dispersion(T=n), (512, 1024, 2048, 4096, 8192), 1, 1, "lift and pair sums"),
    "dispersion, H": Growth(lambda n: dispersion(H=n), (256, 512, 1024, 2048, 4096), 1, 1, "the lift alone knows H"),
    "dispersion, F": Growth(
        lambda n: dispersion(F=n), (16, 32, 64, 128), 3, 2, "eigenvectors of F x F matrices, pair sums as T F^2"
    ),
    "update, B": Growth(lambda n: update(completions=n), (8, 16, 32, 64), 1, 1, "completions are independent"),
    "update, T": Growth(lambda n: update(length=n), (96, 192, 384), 2, 2, "attention over prompt and completion"),
    "rollout, problems": Growth(lambda n: rollout(prompts=n), (8, 16, 32, 64), 1, 1, "rows are independent"),
    "rollout, G": Growth(lambda n: rollout(group=n), (8, 16, 32, 64), 1, 1, "rows are independent"),
    "rollout, T": Growth(lambda n: rollout(length=n), (32, 64, 128, 256), 2, 1, "each token attends to all before"),
    "evaluation, problems": Growth(lambda n: evaluation(n), (8, 16, 32, 64), 1, 1, "problems are independent"),
    "verifier, answers": Growth(lambda n: verifier(n), (100, 200, 400, 800), 1, 1, "answers are independent"),
    "verifier, length": Growth(lambda n: verifier_length(n), (25, 50, 100, 200), 1, 1, "a completion is read once"),
}
SLACK = 0.15
"""An exponent this much above what it should be is still noise."""


QUICK = ("dispersion, T", "dispersion, F", "rollout, G", "verifier, answers")


def rows(effort: Effort) -> Iterator[Row]:
    """The exponents of time and memory of every cost; of some of them, and of time alone, where it has to be quick."""
    with keeping_allocator():
        for name, points in stream_apart(seconds_of_all, QUICK if effort.is_quick else tuple(GROWTH), limit=1800.0):
            yield _row(f"{name}: time", points, GROWTH[name].time, GROWTH[name].why, "s")
    if effort.is_quick:
        return
    with returning_allocator():
        for name, points in stream_apart(memory_of_all, limit=1800.0):
            yield _row(f"{name}: memory", points, GROWTH[name].memory, GROWTH[name].why, "MiB")


def seconds_of_all(names: Sequence[str]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """`seconds_of` some costs."""
    for name in names:
        yield name, seconds_of(name, 3)


def seconds_of(name: str, repeats: int) -> list[tuple[float, float]]:
    """(size, shortest processor time) of each size."""
    points = []
    for size in GROWTH[name].sizes:
        work = GROWTH[name].work(size)
        work()
        points.append((float(size), min(_seconds(work) for _ in range(repeats))))
    return points


def _seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def memory_of_all() -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """`memory_of` every cost."""
    for name in GROWTH:
        yield name, memory_of(name)


def memory_of(name: str) -> list[tuple[float, float]]:
    """(size, MiB at the peak above what was held before) of each size. Linux alone keeps a peak that can be reset."""
    points = []
    for size in GROWTH[name].sizes:
        work = GROWTH[name].work(size)
        if not points:
            work()  # what is made once, such as buffers of libraries
        points.append((float(size), peak_of(work)))
    return points


def peak_of(work: Work) -> float:
    """MiB that some work holds at its peak above what was held before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 2**-4)


def _status(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 2**10


def returning_allocator() -> AbstractContextManager[None]:
    """Processes that start in here give memory back to the system when they free it (glibc)."""
    return _environment({"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"})


def keeping_allocator() -> AbstractContextManager[None]:
    """Processes that start in here use the memory again that they freed (glibc)."""
    return _environment({"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)})


@contextmanager
def _environment(names: dict[str, str]) -> Iterator[None]:
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def exponent_of(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of the logarithms of the last three points."""
    logs = [(math.log(size), math.log(figure)) for size, figure in points[-3:]]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def _row(name: str, points: Sequence[tuple[float, float]], expected: float, why: str, unit: str) -> Row:
    exponent = exponent_of(points)
    first, last = points[0], points[-1]
    return Row(
        name=name,
        ratio=exponent,
        against=f"at most {expected:g}: {why}",
        ours=exponent,
        theirs=expected,
        unit="exponent",
        target=expected + SLACK,
        note=f"{first[1]:.3g} {unit} at {first[0]:.0f}, {last[1]:.3g} {unit} at {last[0]:.0f}",
        points=tuple(points),
    )
