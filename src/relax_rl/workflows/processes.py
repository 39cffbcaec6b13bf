"""How many processes sample an evaluation: as many as there are cores for, and memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.workflows.progress import OnProgress, Progress

__all__ = ["Cores", "can_fork", "check_processes", "cores_for"]

_BYTES_PER_LOGIT = 40
"""Bytes of a row's logits: themselves, and float64 copies while a token is drawn."""
_RESERVED = 256 << 20
"""Bytes beside the cache and the logits: activations of a prefill, and the process itself."""


def check_processes(processes: int | None, backend: str) -> None:
    """Refuse a number of processes that would come to nothing.

    Raises:
        ConfigError: naming what it does not fit.
    """
    if processes is None or processes == 1:
        return
    if processes < 1:
        raise ConfigError(f"processes = {processes} must be at least 1; leave it out for one a core.")
    if backend != "transformers":
        raise ConfigError(
            f"--processes {processes} is for a model that runs here; --backend {backend} has its own, so leave it out."
        )
    if sys.platform != "linux":
        raise ConfigError(f"--processes {processes} needs Linux, which can fork a process that computes; leave it out.")


def can_fork(asked: int | None, model: Any) -> bool:
    """Whether processes can share a loaded model: it is on the CPU, under Linux.

    Raises:
        ConfigError: several processes were asked for, and they cannot.
    """
    if model.device.type == "cpu":
        return sys.platform == "linux"
    if asked is not None and asked > 1:
        raise ConfigError(
            f"--processes {asked} is for a model on the CPU, but this one is on {model.device.type}; leave it out."
        )
    return False


@dataclass(frozen=True)
class Cores:
    """Processes that sample, and threads of each."""

    processes: int
    threads: int


def cores_for(
    asked: int | None, model: Any, batch_size: int, num_tokens: int, num_samples: int, say: OnProgress
) -> Cores:
    """Sampler of a loaded model on the CPU under Linux.

    Args:
        asked: processes. None: as many as torch has threads (``OMP_NUM_THREADS``, else the cores), but no more than
            there are batches, and fewer where memory is short.
        num_tokens: number of tokens of the longest prompt and a completion.
        num_samples: number of samples of all problems.
        say: is told where memory is short.

    Returns:
        Processes; and threads, which depend on the number of batches and not on that of the processes, since with the
        threads the last bits of the logits change: all for a single batch, else one.
    """
    import torch

    num_cores, num_batches = torch.get_num_threads(), -(-num_samples // batch_size)
    if num_batches == 1:
        return Cores(1, num_cores)
    # Never more threads: OpenMP's do not survive a fork, and a process that asked for them would wait for ever.
    threads, count = 1, min(num_cores if asked is None else asked, num_batches)
    need = _bytes_of_process(model, min(batch_size, num_samples), num_tokens)
    free = _free_bytes()
    if count == 1 or free is None or count * need <= free:
        return Cores(count, threads)
    words = f"{count} processes that sample need up to {_gib(count * need)}, and {_gib(free)} are free"
    if asked is not None:
        say(Progress("loading", message=f"{words}; a smaller --batch-size needs less"))
        return Cores(count, threads)
    fitting = max(1, free // need)
    say(Progress("loading", message=f"{words}: {fitting} will do; a smaller --batch-size makes room for more"))
    return Cores(fitting, threads)


def _bytes_of_process(model: Any, batch_size: int, num_tokens: int) -> int:
    """An estimate from above of what a process needs for itself; the weights are shared."""
    from relax_rl.latent.sites import language_model_of

    config = language_model_of(model).config.get_text_config(decoder=True)
    num_heads = getattr(config, "num_attention_heads", None)
    if num_heads is None:  # a recurrent model keeps states of one size, which are smaller
        width = config.hidden_size
    else:
        head = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        width = (getattr(config, "num_key_value_heads", None) or num_heads) * head
    cache = 2 * config.num_hidden_layers * width * num_tokens * model.dtype.itemsize
    return batch_size * (cache + _BYTES_PER_LOGIT * config.vocab_size) + _RESERVED


def _free_bytes() -> int | None:
    """Free memory of this machine, or of the container; None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
