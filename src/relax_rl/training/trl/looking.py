"""Images of a rollout: each prompt's are read by the processor once and looked at once a forward, however large G is.

TRL has the processor read the images of every row twice, keeps the pixels of every row, and hands them to the model by
names that it must know of each family. Here rows carry a reference to what the processor made of their prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow.compute as pc
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from PIL.Image import Image
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from relax_rl.errors import ConfigError, ModelError
from relax_rl.latent.images.look import Look, by_object, look_at, rows_of
from relax_rl.latent.images.parts import outside_the_decoder
from relax_rl.latent.images.sharing import placed, shown
from relax_rl.training.rows import images_of
from relax_rl.training.trl.policy import PolicyTrainer
from relax_rl.training.trl.strategy import is_sharded

__all__ = ["LookingTrainer", "in_chunks_of_rows"]

Row = dict[str, Any]


class LookingTrainer(PolicyTrainer):
    """`trl.GRPOTrainer` that looks at the images of a prompt once, for all rows of its group.

    Tools, environments and a `rollout_func` bring images of their own, and are left to TRL.
    """

    _is_vlm: Any
    _tokenizer: Any
    _logs: Any
    chat_template: Any
    chat_template_kwargs: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        own = (kwargs.get("tools"), kwargs.get("environment_factory"), kwargs.get("rollout_func"))
        self._shares_looks = self._is_vlm and not any(own)
        self._in_view: list[Look] = []
        self._given: list[Row] | None = None
        if self._shares_looks and is_sharded(self.accelerator) and _is_mixed(kwargs["train_dataset"]):
            # The vision part is a collective there: a process without an image would leave the others waiting.
            raise ConfigError(
                "Some prompts show images and some do not, which a sharded run cannot train; use several processes "
                "without FSDP and DeepSpeed, or prompts of one kind."
            )

    @contextmanager
    def _viewing(self, looks: Sequence[Look] | None) -> Generator[None]:
        """Inside, forwards are of rows that show these images; of none, where there are no looks."""
        kept, self._in_view = self._in_view, list(looks or ())
        try:
            yield
        finally:
            self._in_view = kept

    @contextmanager
    def _showing(self, inputs: list[Row]) -> Generator[list[Row]]:
        """The rows as TRL gets them: images inside their prompts, which are one object a group, and no column of them.

        With such a column, TRL would have the processor read all images again.
        """
        if not self._shares_looks:
            yield inputs
            return
        shown_rows: list[Row] = []
        for index, row in enumerate(inputs):
            if index and _is_same(row, inputs[index - 1]):
                shown_rows.append(
                    shown_rows[-1] if row is inputs[index - 1] else row | {"prompt": shown_rows[-1]["prompt"]}
                )
            elif images := images_of(row):
                _check_conversation(row)
                shown_rows.append(row | {"prompt": prepare_multimodal_messages(row["prompt"], images=images)})
            else:
                shown_rows.append(dict(row))
        given = [{name: value for name, value in row.items() if name not in ("image", "images")} for row in shown_rows]
        self._given, self._in_view = inputs, []
        try:
            yield given
            if self._in_view and self.args.log_completions and self.args.log_multimodal:
                self._logs["images"].extend(gather_object([images_of(row) for row in inputs]))
        finally:
            self._given, self._in_view = None, []

    def _as_given(self, inputs: list[Row]) -> list[Row]:
        """Rows with the columns of the data again, images among them: what reward functions and records get."""
        if self._given is None:
            return inputs
        own = [{name: row[name] for name in ("prompt", "image", "images") if name in row} for row in self._given]
        return [row | columns for row, columns in zip(inputs, own, strict=True)]

    def _tokenize_prompts(self, prompts: Any) -> Any:
        if not self._shares_looks or isinstance(prompts[0], str) or not any(map(_shows, prompts)):
            return super()._tokenize_prompts(prompts)
        distinct = {id(prompt): prompt for prompt in prompts}
        device = self.accelerator.device
        made = {key: self._look(prepare_multimodal_messages(prompt)) for key, prompt in distinct.items()}
        self._in_view = [made[id(prompt)] for prompt in prompts]
        names = self._in_view[0].per_token
        # What `generate` counts positions from; features come by way of `shown`.
        fields: dict[str, Any] = {name: [look.per_token[name].tolist() for look in self._in_view] for name in names}
        images = [_parts(prompt) or None for prompt in prompts]
        return [look.token_ids for look in self._in_view], images, fields | placed(self._in_view, device)

    def _look(self, conversation: Any) -> Look:
        options = {} if self.chat_template is None else {"chat_template": self.chat_template}
        look = look_at(self.processing_class, conversation, switches=self.chat_template_kwargs, **options)
        return look.to(self.accelerator.device)

    def altered(self, given: list[Row], looks: list[Look], alter: Callable[[Image, str], Image]) -> list[Look]:
        """See `relax_rl.training.inputs.provider.Trainer`."""
        made: dict[int, Look] = {}
        for row, look in zip(given, looks, strict=False):
            if id(look) in made:
                continue
            shown = [alter(image, f"{len(made)} {place}") for place, image in enumerate(images_of(row))]
            if not shown:
                made[id(look)] = look
                continue
            other = self._look(prepare_multimodal_messages(row["prompt"], images=shown))
            if other.token_ids != look.token_ids:
                raise ModelError(
                    "The processor made another number of tokens of a masked image than of the image itself; choose an "
                    "objective without masked images for this model."
                )
            made[id(look)] = other
        return [made[id(look)] for look in looks]

    def _generate(self, prompts: Any) -> Any:
        *first, images, tool_images = super()._generate(prompts)
        # vLLM is given them; to TRL they would be images for the processor to read again.
        return (*first, None if self._in_view else images, tool_images)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with shown(self.accelerator.unwrap_model(self.model), self._in_view):
            return super()._generate_single_turn(*args, **kwargs)

    def _unseen(self, inputs: Row) -> Tensor | float:
        """0, and with a gradient of 0 for the parts that see where these rows show no image and others may.

        DDP waits for the gradient of every parameter that is trained.
        """
        shows = any(look.images for look in inputs.get("looks", ()))
        if not self._shares_looks or shows or self.accelerator.num_processes == 1 or is_sharded(self.accelerator):
            return 0.0
        seeing = outside_the_decoder(self.accelerator.unwrap_model(self.model))
        parts = [parameter.sum() * 0.0 for parameter in seeing if parameter.requires_grad]
        return torch.stack(parts).sum() if parts else 0.0

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _in_memory(self) -> dict[str, Any]:
        state = super()._in_memory()
        if state["rollout"] is not None:
            state["rollout"] = [_packed(batch) for batch in state["rollout"]]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        if self._buffered_inputs is not None:
            self._buffered_inputs = [_unpacked(batch) for batch in self._buffered_inputs]


def in_chunks_of_rows(
    score: Any, ids: Tensor, mask: Tensor, num_kept: int, batch_size: int, looks: Sequence[Look]
) -> Any:
    """Output of `score` for rows in order, `batch_size` at a time: the rows of a prompt stay together."""
    starts = range(0, len(ids), batch_size)
    parts = [
        score(*(rows[start : start + batch_size] for rows in (ids, mask)), num_kept, looks[start : start + batch_size])
        for start in starts
    ]
    if len(parts) == 1:
        return parts[0]
    log_probs, entropies, losses = zip(*parts, strict=True)
    return (
        torch.cat(log_probs),
        None if entropies[0] is None else torch.cat(entropies),
        None if losses[0] is None else torch.stack(losses).mean(),
    )


def _packed(batch: Row) -> Row:
    """With each look once, for a file."""
    if "looks" not in batch:
        return batch
    distinct = [look.to_dict() for look in by_object(batch["looks"])]
    return batch | {"looks": {"distinct": distinct, "rows": rows_of(batch["looks"])}}


def _unpacked(batch: Row) -> Row:
    held = batch.get("looks")
    if not isinstance(held, dict):
        return batch
    looks = [Look(**given) for given in held["distinct"]]
    return batch | {"looks": [looks[place] for place in held["rows"]]}


def _is_mixed(dataset: Any) -> bool:
    """Whether some rows of a data set show images and some do not; False for one that is streamed."""
    if not isinstance(dataset, Dataset) or "images" not in dataset.column_names:
        return False
    counts: Any = pc.list_value_length(dataset.with_format("arrow")["images"][:])  # type: ignore[attr-defined]
    return pc.min(counts).as_py() == 0 < pc.max(counts).as_py()  # type: ignore[attr-defined]


def _is_same(row: Row, other: Row) -> bool:
    return row is other or (row["prompt"] == other["prompt"] and images_of(row) == images_of(other))


def _check_conversation(row: Row) -> None:
    if isinstance(row["prompt"], str):
        raise ConfigError(
            "A prompt with images is plain text; give the trainer messages, and let the chat template place the images."
        )


def _parts(prompt: Any) -> list[Any]:
    """The images inside a conversation."""
    return [
        part["image"]
        for message in prompt
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    ]


def _shows(prompt: Any) -> bool:
    return bool(_parts(prompt))
