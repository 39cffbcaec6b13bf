"""One trace of the start policy's bank for each prompt of a batch, and how far the policy has gone from it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from relax_rl.errors import ConfigError, DataError, RunError
from relax_rl.koopman import KoopmanDictionary, gram_from_trajectories, load_dictionary
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.latent.capture import ForwardCapture, evaluation_mode
from relax_rl.objectives.anchors import one_step_error, token_divergence
from relax_rl.objectives.inputs import BankTerm, Input
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.training.bank import Trace, read_bank
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer
from relax_rl.training.rows import places_in_row_order

__all__ = ["BANK_FILE", "BankTraces"]

BANK_FILE = "bank.safetensors"
_DICTIONARY_FILE = "bank_dictionary.safetensors"
_MOST_TRACES = 512
_AT_ONCE = 32


class BankTraces(Provider):
    """The bank's traces under the policy, in a forward of their own beside that of the rollouts.

    What the start policy gives of them is measured before the first update, and kept with the checkpoints. Each prompt
    of an update has one trace; all traces are used in turn, in an order that the run's seed gives.
    """

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        super().__init__(wanted, trainer)
        self._term = cast(BankTerm, wanted)
        if not self._term.path:
            raise ConfigError(f"The objective {trainer.objective.name!r} needs objective.bank; see docs/methods.md.")
        if trainer.accelerator.distributed_type.value in ("FSDP", "DEEPSPEED"):
            raise ConfigError(
                "A bank needs the whole policy in each process; train without FSDP and DeepSpeed, or without a bank."
            )
        traces = read_bank(self._term.path, trainer.text_tokenizer)
        random.Random(f"bank {trainer.args.seed}").shuffle(traces)
        self._traces = traces[:_MOST_TRACES]
        self._capture = ForwardCapture(trainer.policy)
        self._start: dict[str, Tensor] | None = None
        self._dictionary: KoopmanDictionary | None = None

    def before_updates(self, batches: list[Rows]) -> None:
        if self._start is None:
            if self.trainer.state.global_step:
                raise RunError(f"The bank was not measured at the start of the run: there is no {BANK_FILE}.")
            self._start = self._measured_at_start()
        rows = torch.arange(sum(len(batch["row"]) for batch in batches))
        group, accelerator = self.trainer.args.num_generations, self.trainer.accelerator
        groups = len(rows) // group
        first = (self.trainer.state.global_step * accelerator.num_processes + accelerator.process_index) * groups
        traces = ((first + rows // group) % len(self._traces)).to(accelerator.device)
        for batch, places in zip(batches, places_in_row_order(batches), strict=True):
            batch["bank_trace"] = traces[places.to(traces.device)]

    def tensor(self, micro: MicroBatch) -> Tensor:
        """(P,) the term of each prompt's trace; by row where a micro-batch breaks groups."""
        rows = micro.rows.get("bank_trace")
        if rows is None:  # in the trainer's own evaluation, whose loss is of the rollouts alone
            return torch.zeros(len(micro.mask) // micro.group_size, device=micro.mask.device)
        if micro.group_size > 1:
            return self._terms(rows[:: micro.group_size].tolist())
        # Any row of a group may be the one that the loss reads, so each has the value; a trace is run once.
        traces, places = rows.unique(return_inverse=True)
        return self._terms(traces.tolist())[places]

    def _terms(self, chosen: list[int]) -> Tensor:
        """(N,) float64, with gradient."""
        if self._start is None:
            raise DataError("The bank was asked for before the first update of a run.")
        log_probs, mask, states = self._forward([self._traces[index] for index in chosen])
        if self._term.kind == "latent":
            now = one_step_error(self._lift(states), mask, self._start["operator"].to(states.device))
            return now / self._start["errors"].to(now.device)[chosen].clamp(min=1e-12) - 1
        before = self._start["log_probs"].to(log_probs.device)[chosen][:, : mask.shape[1]]
        # Masked before the difference: what stands behind the end of a trace is no number of it.
        log_ratio = torch.where(mask, log_probs.double() - before.double(), 0.0)
        if self._term.kind == "log_ratio":
            return log_ratio.sum(-1)
        divergence = token_divergence(log_ratio, self._term.kind, self._term.alpha)
        return torch.where(mask, divergence, 0.0).sum(-1) / mask.sum(-1)

    def _lift(self, states: Tensor) -> Tensor:
        if self._dictionary is None:
            raise DataError("The bank has no dictionary yet.")
        return self._dictionary.to(states.device)(states)

    def _forward(self, traces: list[Trace]) -> tuple[Tensor, Tensor, Tensor]:
        """(N, S) log-probabilities of the traces' tokens, (N, S) where there is one, (N, S, H) their states."""
        device = self.trainer.accelerator.device
        ids = [torch.tensor([*trace.prompt, *trace.completion]) for trace in traces]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        attention = torch.arange(padded.shape[1], device=device) < lengths.unsqueeze(-1)
        with self._capture.armed():
            output = self.trainer.policy(input_ids=padded, attention_mask=attention.long(), use_cache=False)
        states = self._capture.take().hidden_states
        starts = torch.tensor([len(trace.prompt) for trace in traces], device=device)
        width = max(len(trace.completion) for trace in traces)
        places = starts.unsqueeze(-1) + torch.arange(width, device=device)
        mask = places < lengths.unsqueeze(-1)
        places = places.clamp(max=padded.shape[1] - 1)
        rows = torch.arange(len(traces), device=device).unsqueeze(-1)
        logits = output.logits[rows, places - 1].float() / self.trainer.temperature
        found = logits.log_softmax(-1).gather(-1, padded[rows, places].unsqueeze(-1)).squeeze(-1)
        return found, mask, states[rows, places]

    def _measured_at_start(self) -> dict[str, Tensor]:
        """Values of the start policy for all traces, each once. Every process measures all of them."""
        width = max(len(trace.completion) for trace in self._traces)
        log_probs = torch.zeros(len(self._traces), width)
        trajectories: list[Tensor] = []
        with evaluation_mode(self.trainer.policy):
            for start in range(0, len(self._traces), _AT_ONCE):
                found, mask, states = self._forward(self._traces[start : start + _AT_ONCE])
                log_probs[start : start + len(found), : found.shape[1]] = torch.where(mask, found, 0.0).cpu()
                if self._term.kind == "latent":
                    trajectories += [one[keep].float().cpu() for one, keep in zip(states, mask, strict=True)]
        measured = {"log_probs": log_probs}
        if self._term.kind == "latent":
            measured |= self._operator_of(trajectories)
        return measured

    def _operator_of(self, trajectories: list[Tensor]) -> dict[str, Tensor]:
        self._dictionary = DictionarySettings(num_observables=self._term.num_observables).fit(trajectories)
        dictionary = self._dictionary
        with torch.no_grad():
            operator = least_squares_operator(gram_from_trajectories(trajectories, dictionary)).matrix
            errors = [
                one_step_error(dictionary(one)[None], torch.ones(1, len(one), dtype=torch.bool), operator)
                for one in trajectories
            ]
        return {"operator": operator, "errors": torch.cat(errors)}

    def save(self, folder: Path) -> None:
        if self._start is not None:
            save_file({name: tensor.contiguous() for name, tensor in self._start.items()}, folder / BANK_FILE)
        if self._dictionary is not None:
            self._dictionary.save(folder / _DICTIONARY_FILE)

    def load(self, folder: Path) -> None:
        try:
            start: dict[str, Any] = load_file(folder / BANK_FILE)
            if len(start["log_probs"]) != len(self._traces):
                raise ValueError(f"it is of {len(start['log_probs'])} traces, the bank has {len(self._traces)}")
            if self._term.kind == "latent":
                self._dictionary = cast(KoopmanDictionary, load_dictionary(folder / _DICTIONARY_FILE))
            self._start = start
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"The checkpoint {folder} holds no usable {BANK_FILE} ({error}); resume from an older one, or start "
                "the run again with --overwrite."
            ) from error
