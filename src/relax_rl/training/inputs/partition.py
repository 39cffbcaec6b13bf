"""The learned log Z of FlowRL: a small head beside the policy, trained by the same optimiser."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from relax_rl.errors import RunError
from relax_rl.objectives.inputs import Input
from relax_rl.training.inputs.provider import MicroBatch, Provider, Trainer

__all__ = ["PARTITION_FILE", "LearnedPartition", "PartitionHead"]

PARTITION_FILE = "partition.safetensors"


class KeyedDropout(nn.Module):
    """Dropout of rows whose mask follows from a key of each row.

    `torch.nn.Dropout` draws from the process's random numbers, so the mask of a prompt depends on how an update is cut
    into micro-batches and spread over processes.

    Args:
        share: share of the numbers that are dropped; the others grow by 1 / (1 - share).
        place: place of the layer among those with the same keys.

    Attributes:
        keys: keys of the rows that come next; without them nothing is dropped.
    """

    def __init__(self, share: float, place: int = 0) -> None:
        super().__init__()
        self.share = share
        self.keys: Sequence[str] = ()
        self._place = place

    def forward(self, rows: Tensor) -> Tensor:
        """(P, H) the rows with their masks; as they are in evaluation."""
        if not self.training or not self.keys:
            return rows
        drawn = torch.stack([self._drawn(key, rows.shape[1]) for key in self.keys]).to(rows.device)
        return rows * (drawn >= self.share) / (1 - self.share)

    def _drawn(self, key: str, width: int) -> Tensor:
        # On the CPU: every device has the same numbers.
        digest = hashlib.sha256(f"dropout {self._place} {key}".encode()).digest()
        return torch.rand(width, generator=torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1))


class PartitionHead(nn.Module):
    """From a prompt's mean final-norm state (P, H) to log Z (P,).

    Three linear layers with GELU, layer norm and dropout between, as in verl's recipe for FlowRL (arXiv 2509.15207).

    Args:
        width: H.
        seed: seed of the start, which is the same in every process; the run's own random numbers are not touched.
    """

    def __init__(self, width: int, num_layers: int = 3, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.skips_step = False
        self._dropouts: list[KeyedDropout] = []
        layers: list[nn.Module] = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for _ in range(num_layers - 1):
                self._dropouts.append(KeyedDropout(dropout, place=len(self._dropouts)))
                layers += [nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), self._dropouts[-1]]
            self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, states: Tensor, mask: Tensor, keys: Sequence[str] = ()) -> Tensor:
        """(P,) log Z from the states (P, L, H) of the prompts and their mask (P, L).

        Args:
            keys: one for each prompt, from which its dropout follows; without, nothing is dropped.
        """
        for dropout in self._dropouts:
            dropout.keys = keys
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = torch.where(mask.unsqueeze(-1), states.float(), 0.0).sum(1) / count
        return self.layers(mean).squeeze(-1)

    def join(self, optimizer: torch.optim.Optimizer, accelerator: Any, max_grad_norm: float) -> None:
        """Have an optimiser step the head, too.

        The trainer's wrapper knows the policy alone, so averaging over processes, clipping and clearing the gradient
        are done here, around each step. The norm is clipped apart from the policy's.
        """
        parameters = list(self.parameters())
        optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})

        def before(*_: Any) -> None:
            if self.skips_step:
                return
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
            if max_grad_norm > 0:
                nn.utils.clip_grad_norm_(parameters, max_grad_norm)

        def after(*_: Any) -> None:
            self.skips_step = False
            for parameter in parameters:
                parameter.grad = None

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def save(self, folder: Path) -> None:
        """Write the head into a checkpoint folder."""
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / PARTITION_FILE)

    def load(self, folder: Path) -> None:
        """Read the head of a checkpoint. Raises RunError where there is none that fits."""
        try:
            self.load_state_dict(load_file(folder / PARTITION_FILE))
        except (OSError, RuntimeError) as error:
            raise RunError(
                f"The checkpoint {folder} holds no usable {PARTITION_FILE} ({error}); resume from an older one, or "
                "start the run again with --overwrite."
            ) from error


class LearnedPartition(Provider):
    """log Z of each prompt by a `PartitionHead` that is trained along with the policy."""

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        super().__init__(wanted, trainer)
        width = trainer.policy.get_output_embeddings().weight.shape[1]
        self.head = PartitionHead(width, seed=trainer.args.seed).to(trainer.accelerator.device)

    def tensor(self, micro: MicroBatch) -> Tensor:
        # All rows of a group have the same prompt: its first row stands for it.
        mask = micro.rows["prompt_mask"][:: micro.group_size].bool()
        self.head.train(self.trainer.is_training)
        prompts = micro.rows["prompt_ids"][:: micro.group_size]
        update = f"{self.trainer.args.seed} {self.trainer.state.global_step}"
        keys = [f"{update} {ids[keep].tolist()}" for ids, keep in zip(prompts, mask, strict=True)]
        return self.head(micro.forward.hidden_states[:: micro.group_size, : mask.shape[1]], mask, keys)

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        self.head.join(optimizer, self.trainer.accelerator, self.trainer.args.max_grad_norm or 0.0)

    def learns(self) -> list[tuple[str, nn.Parameter]]:
        return [(f"log Z head {name}", parameter) for name, parameter in self.head.named_parameters()]

    def skip_step(self) -> None:
        self.head.skips_step = True

    def save(self, folder: Path) -> None:
        self.head.save(folder)

    def load(self, folder: Path) -> None:
        self.head.load(folder)
