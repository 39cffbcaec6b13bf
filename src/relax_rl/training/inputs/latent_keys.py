"""Position of each completion in latent space: the state at its answer, scaled by the first rollout batch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor

from relax_rl.errors import DataError, RunError
from relax_rl.objectives.inputs import Input, LatentKeys
from relax_rl.objectives.latent_modes import agreement, clusters, pairwise_distances
from relax_rl.training.inputs.answers import answer_tokens
from relax_rl.training.inputs.modes import mode_number
from relax_rl.training.inputs.provider import MicroBatch, Provider, Rows, Trainer
from relax_rl.training.rows import in_row_order, places_in_row_order

__all__ = ["UNIT_FILE", "LatentPositions"]

UNIT_FILE = "latent_keys.json"
_MOST_TOKENS = 4096
"""Token sets of a larger vocabulary are folded to so many numbers."""


class LatentPositions(Provider):
    """The positions of a rollout batch under the policy that sampled it: one more forward without gradient.

    The unit is a quantile of the distances between completions of one prompt in the first rollout batch that has any,
    and stays; it is kept with the checkpoints. Where the reward functions tell modes, how well the positions tell them
    apart is logged.
    """

    def __init__(self, wanted: Input, trainer: Trainer) -> None:
        super().__init__(wanted, trainer)
        self._keys = cast(LatentKeys, wanted)
        self._unit: float | None = None
        self._figures: dict[str, float] = {}

    @property
    def _reads_answer(self) -> bool:
        return self._keys.source in ("answer", "answer_end")

    def sampled(self, given: list[dict[str, Any]], output: Rows) -> dict[str, Tensor]:
        device = self.trainer.accelerator.device
        columns = {"answer_place": self._places(output).to(device)} if self._reads_answer else {}
        if modes := self.trainer.sampled_modes:
            columns["told_mode"] = torch.tensor([mode_number(mode) for mode in modes], device=device)
        return columns

    def _places(self, output: Rows) -> Tensor:
        """(B,) the token of each completion whose predicting state is read; -1 without an answer."""
        answers = self.trainer.sampled_answers
        if not answers:
            raise DataError(
                f"The objective {self.trainer.objective.name!r} reads the state at the answer of each completion, but "
                "no verifier tells where it is; set objective.source to mean, use a verifier that extracts answers, or "
                "call log_extra('answer_found', [...]) in a reward function, with a text or None for each completion."
            )
        ids, kept = output["completion_ids"], output["completion_mask"].bool()
        found = [
            answer_tokens(self.trainer.text_tokenizer, row[keep].tolist(), answer)
            for row, keep, answer in zip(ids, kept, answers, strict=True)
        ]
        which = int(self._keys.source == "answer_end")
        return torch.tensor([-1 if span is None else span[which] for span in found])

    def before_updates(self, batches: list[Rows]) -> None:
        # In the order of the rows, which has whole groups: a micro-batch may hold parts of them.
        raw = in_row_order(batches, [self._raw(self._micro(batch)) for batch in batches])
        if self._unit is None:
            self._unit = self._calibrated(raw)
        scaled = self._scaled(raw)
        if self._keys.is_shuffled:
            scaled = scaled[self._dealt(batches)]
        for batch, places in zip(batches, places_in_row_order(batches), strict=True):
            batch["latent_keys"] = scaled[places]
        self._figures = self._measured(batches, self._by_group(scaled))

    @property
    def _group(self) -> int:
        return self.trainer.args.num_generations

    def _by_group(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, self._group))

    def _micro(self, batch: Rows) -> MicroBatch:
        mask = self.trainer.completion_mask(batch)
        return MicroBatch(batch, self.trainer.forward_only(batch), mask, group_size=1)

    @torch.no_grad()
    def _raw(self, micro: MicroBatch) -> Tensor:
        """(B, D) float32 positions before they are scaled; NaN without one."""
        if self._keys.source == "tokens":
            return self._token_sets(micro)
        if self._keys.source == "mean":
            states, mask = micro.states_ending(before=0).float(), micro.mask.unsqueeze(-1)
            return torch.where(mask, states, 0.0).sum(1) / mask.sum(1)
        places = micro.rows["answer_place"]
        rows = torch.arange(len(places), device=places.device)
        states = micro.predicting_states[rows, places.clamp(min=0)].float()
        return states.masked_fill((places < 0).unsqueeze(-1), torch.nan)

    def _token_sets(self, micro: MicroBatch) -> Tensor:
        """Sets of tokens at length 1: half the squared distance is 1 less the overlap by cosine."""
        size = min(_MOST_TOKENS, len(self.trainer.text_tokenizer))
        sets = torch.zeros(len(micro.mask), size, device=micro.mask.device)
        ids = micro.rows["completion_ids"].masked_fill(~micro.mask, 0) % size
        sets.scatter_reduce_(1, ids, micro.mask.float(), reduce="amax")
        return torch.nn.functional.normalize(sets, dim=-1)

    def _calibrated(self, raw: Tensor) -> float | None:
        """The quantile of the distances above 0 within prompts, on all processes; None where there is none."""
        above = torch.ones(self._group, self._group, dtype=torch.bool).triu(1)
        distances = pairwise_distances(self._by_group(raw)).cpu()[:, above].flatten()
        found = torch.tensor(gather_object(distances.tolist()), dtype=torch.float64)
        found = found[found > 0]
        if not len(found):
            self.trainer.notices(
                "No prompt of the rollout batch has two completions with different answer states, so all right "
                "completions count as one solution; the next rollout batch is tried."
            )
            return None
        return float(found.quantile(self._keys.quantile))

    def _scaled(self, raw: Tensor) -> Tensor:
        return torch.full_like(raw, torch.nan) if self._unit is None else raw / self._unit

    def _dealt(self, batches: list[Rows]) -> Tensor:
        """(B,) another row of its group for each row; it follows from the sampled tokens, not from their layout."""
        tokens = [batch["completion_ids"] * batch["completion_mask"] for batch in batches]
        found: list[int] = []
        for start, ids in enumerate(self._by_group(in_row_order(batches, tokens))):
            digest = hashlib.sha256(str(ids[ids != 0].tolist()).encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
            found += [start * self._group + one for one in torch.randperm(self._group, generator=generator).tolist()]
        return torch.tensor(found, device=tokens[0].device)

    def tensor(self, micro: MicroBatch) -> Tensor:
        kept = micro.rows.get("latent_keys")
        return self._scaled(self._raw(micro)) if kept is None else kept

    def _measured(self, batches: list[Rows], positions: Tensor) -> dict[str, float]:
        """Figures of the rollout batch, of this process's groups."""
        is_right = self._by_group(in_row_order(batches, [batch["rewards"] for batch in batches])) == 1
        figures = {"latent/key_defined": float(positions.isfinite().all(-1).double().mean())}
        found = clusters(positions, is_right)
        counts = [len(labels[labels >= 0].unique()) for labels in found if bool((labels >= 0).any())]
        figures["latent/solutions"] = sum(counts) / len(counts) if counts else float("nan")
        if all("told_mode" in batch for batch in batches):
            modes = self._by_group(in_row_order(batches, [batch["told_mode"] for batch in batches]))
            agrees = agreement(positions, modes, is_right)
            figures |= {"latent/modes_auc": agrees.auc, "latent/modes_rand": agrees.rand}
        return figures

    def figures(self) -> dict[str, float]:
        found, self._figures = self._figures, {}
        return found

    def save(self, folder: Path) -> None:
        (folder / UNIT_FILE).write_text(json.dumps({"source": self._keys.source, "unit": self._unit}) + "\n")

    def load(self, folder: Path) -> None:
        try:
            kept = json.loads((folder / UNIT_FILE).read_text())
            self._unit = None if kept["unit"] is None else float(kept["unit"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"The checkpoint {folder} holds no usable {UNIT_FILE} ({error}); resume from an older one, or start "
                "the run again with --overwrite."
            ) from error
