"""Synthetic run directories, written the way a run leaves them: fixtures that a conftest imports."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from relax_rl.evaluation.metrics import pass_at_k
from relax_rl.evaluation.result import EvaluationResult, PooledSpectrum, ProblemResult, SampleRecord
from relax_rl.evaluation.snapshot import Snapshot, TracedCompletion
from relax_rl.statistics.intervals import bootstrap_mean

HOSTILE = '</pre><script>alert("x")</script><img src=x onerror=alert(1)> & $\\oops$ \x00 \ud800 \u202e'
DIGEST = "0123456789abcdef"


@pytest.fixture
def hostile() -> str:
    """What a model might write to get at the reader of a page."""
    return HOSTILE


@pytest.fixture
def make_evaluation() -> Callable[..., EvaluationResult]:
    """Make an evaluation (see `synthetic_evaluation`)."""
    return synthetic_evaluation


def synthetic_evaluation(skill: float, *, seed: int = 0, spread: float = 0.1, digest: str = DIGEST) -> EvaluationResult:
    """An evaluation of 40 problems with 16 samples each; ``skill`` moves correctness, entropy and length."""
    generator = np.random.default_rng(seed)
    difficulty = np.random.default_rng(99).uniform(0, 0.5, size=40)
    num_correct = generator.binomial(16, np.clip(skill + 0.3 - difficulty, 0, 1))
    entropy = 0.5 - 0.3 * skill + generator.normal(0, 0.02, size=40)
    length = 50 - 10 * skill + generator.normal(0, 2, size=40)
    dsd = np.exp(generator.normal(2 + spread * 10, 0.3, size=40))
    values = {
        "mean@1": num_correct / 16,
        **{f"pass@{k}": np.array([pass_at_k(16, int(c), k) for c in num_correct]) for k in (2, 4, 8, 16)},
        "entropy": entropy,
        "dsd": dsd,
        "length": length,
        "truncated": np.full(40, 0.03),
        "not_scored": np.zeros(40),
    }
    metrics = {name: bootstrap_mean(v, length if name == "entropy" else None) for name, v in values.items()}
    moduli, angles = generator.uniform(0.1, 1.0 + spread, size=8), generator.uniform(0, np.pi, size=8)
    points = moduli * np.exp(1j * angles)
    return EvaluationResult(
        task="countdown",
        split="test",
        num_problems=40,
        num_samples=16,
        temperature=1.0,
        top_p=1.0,
        max_completion_length=96,
        seed=0,
        metrics={name: estimate for name, estimate in metrics.items() if estimate is not None},
        spectrum=PooledSpectrum(
            eigenvalues=tuple((float(p.real), s * float(p.imag)) for p in points for s in (1, -1)),
            residuals=tuple(np.repeat(generator.uniform(0, 0.8, size=8), 2).tolist()),
            num_observables=16,
            dictionary_digest=digest,
        ),
        per_problem=tuple(
            ProblemResult(
                f"countdown/test/{i}", int(c), 16, c / 16, float(entropy[i]), float(length[i]), float(dsd[i]), 0.03
            )
            for i, c in enumerate(num_correct)
        ),
        samples=tuple(
            SampleRecord(
                f"countdown/test/{i}", f"11 1 {i + 3}>14:", f"11+1={i}, 11+{i + 3}=14. 11+{i + 3}", "14", s, 40, 9.5
            )
            for i, s in enumerate([1.0, 0.0, None, 1.0, 0.0])
        ),
        backend="transformers",
        prompt_digest="digest of all prompts",
        grader="countdown, relax-rl 0",
    )


def synthetic_snapshot(update: int, *, prompt: str = "1 2 3>6:", token: str = "+") -> Snapshot:
    """Four completions of one prompt, of 20 tokens in turn a digit and ``token``; mode 0 is strong at the latter."""
    generator = np.random.default_rng(update)
    pairs = ((0.9, 0.0), (0.5, 0.3), (0.5, -0.3), (0.1, 0.0))
    walks = generator.normal(size=(4, 20, 3)).cumsum(axis=1)
    tokens = tuple(token if at % 2 else str(at % 10) for at in range(20))
    return Snapshot(
        update=update,
        num_completions=64,
        spectrum=PooledSpectrum(pairs, (0.1, 0.3, 0.3, 0.95), 4, DIGEST),
        modes=(0, 1, 3),
        prompt=prompt,
        completions=tuple(
            TracedCompletion(
                reward=float(place % 2),
                tokens=tokens,
                entropy=tuple(0.1 * (at % 5) for at in range(20)),
                points=tuple(tuple(map(float, point)) for point in walk),
                strengths=("19" * 10, "3" * 20, "91" * 10),
            )
            for place, walk in enumerate(walks)
        ),
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory into the test's own folder and return it (see `write_run`)."""
    return partial(write_run, tmp_path)


def write_run(
    folder: Path,
    name: str,
    objective: str = "grpo",
    *,
    seed: int = 0,
    num_steps: int = 60,
    evaluations: dict[str, EvaluationResult] | None = None,
    completion: str = "11+1=12, 11+3=14. 11+3",
    snapshots: Sequence[Snapshot] = (),
    **settings: object,
) -> Path:
    """Write a run directory into a folder and return it."""
    path = folder / name
    (path / "completions").mkdir(parents=True)
    config = {
        "model": "tiny",
        "task": {"name": "countdown"},
        "objective": {"name": objective, **({"alpha": 0.1} if objective == "relax" else {})},
        "dictionary": {"num_observables": 16},
        "trainer": {"max_steps": num_steps, "learning_rate": 1e-4, "num_generations": 16},
        "seed": seed,
        "output": str(path),
        **settings,
    }
    (path / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(seed + len(objective))
    rows = [_metrics_row(step, num_steps, objective, generator) for step in range(1, num_steps + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (1, num_steps):
        row = {
            "step": step,
            "prompt": "11 1 3>14:",
            "completion": completion,
            "answer": "14",
            "reward": 1.0,
            "scores": {"countdown": 1.0},
            "advantage": -0.73,
            "truncated": True,
        }
        (path / "completions" / f"step_{step:06d}.jsonl").write_text(json.dumps(row) + "\n")
    for stage, evaluation in (evaluations or {}).items():
        evaluation.save(path / "evaluations" / f"{stage}.json")
    for snapshot in snapshots:
        (path / "dynamics").mkdir(exist_ok=True)
        (path / "dynamics" / f"update_{snapshot.update:06d}.json").write_text(json.dumps(snapshot.to_dict()))
    return path


def _metrics_row(step: int, num_steps: int, objective: str, generator: np.random.Generator) -> dict[str, float | int]:
    progress, relax = step / num_steps, objective == "relax"
    row = {
        "step": step,
        "reward": 0.22 + (0.45 if relax else 0.33) * (1 - np.exp(-3 * progress)) + generator.normal(0, 0.03),
        "entropy": 0.45 * np.exp(-(0.5 if relax else 2.5) * progress) + generator.normal(0, 0.01),
        "completions/mean_length": 48 - 10 * progress + generator.normal(0, 1),
        "grad_norm": np.exp(generator.normal(-1, 0.25)),
    }
    if relax:
        row["latent/dsd"] = np.exp(2 + 1.5 * progress + generator.normal(0, 0.2))
    return row
