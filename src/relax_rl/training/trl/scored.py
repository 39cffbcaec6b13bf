"""The rewards of rollouts: what reward functions are told of each completion, and what is kept of their answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from relax_rl.errors import DataError
from relax_rl.rewards.turns import opened_thought
from relax_rl.training.trl.looking import LookingTrainer
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.reward_functions import SilentRewards, own_rewards, try_rewards
from relax_rl.training.trl.thought_marks import with_thought_marks
from relax_rl.training.trl.timed import TimedTrainer
from relax_rl.training.unscored import UnscoredLimit

__all__ = ["ScoredTrainer"]


class ScoredTrainer(TimedTrainer, LookingTrainer):
    """`trl.GRPOTrainer` whose reward functions are told which completions were cut and which prompts opened a thought.

    Args:
        recorder: receives the rows of every rollout batch; None to keep none.
        kwargs: those of `PolicyTrainer`.

    Raises:
        DataError: a reward function fails on the first rows of the data; see `try_rewards`.
    """

    # TRL leaves these open in its own annotations.
    args: Any
    model: Any
    accelerator: Any
    _tokenizer: Any
    _is_vlm: Any
    processing_class: Any
    chat_template: Any
    chat_template_kwargs: Any

    def __init__(self, *, recorder: RolloutRecorder | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"reward_funcs": own_rewards(kwargs["reward_funcs"])})
        # TRL makes the loop only where there are coroutines to run.
        try_rewards(self.reward_funcs, kwargs["train_dataset"], vars(self).get("async_loop"))
        self._silent = SilentRewards(self.reward_funcs)
        self._unscored = UnscoredLimit(self._guard.limits.max_unscored)
        self._recorder = recorder
        self._local_rewards: Tensor | None = None
        self._local_lengths: Tensor | None = None
        self._modes: list[str | None] = []
        self._answers: list[str | None] = []

    def _in_memory(self) -> dict[str, Any]:
        kept = self._recorder is not None and self._is_inside_rollout
        return super()._in_memory() | {"recorded": self._recorder.kept() if kept and self._recorder else None}

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        if self._recorder is not None and state["recorded"] is not None:
            self._recorder.restore(state["recorded"])

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        inputs = self._as_given(inputs)
        ends: list[Any] = [*self.eos_token_ids, self._tokenizer.pad_token_id]
        is_truncated = [not ids or ids[-1] not in ends for ids in completion_ids_list]
        if self.model.training:
            self._watch.rollout(completion_ids_list)
        # Every column of the inputs reaches the reward functions: an answer that the length limit cut is none, and so
        # is one inside a thought that the prompt opened and the completion never closes.
        completions = with_thought_marks(self.processing_class, completions, completion_ids_list)
        rows = [given | {"truncated": flag} for given, flag in zip(inputs, is_truncated, strict=True)]
        opened = self._opened_thoughts(prompts)
        if any(opened):
            rows = [given | {"opened_thought": tag} for given, tag in zip(rows, opened, strict=True)]
        self._modes, self._answers = [], []
        try:
            scores = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        except DataError as error:
            raise self._with_rollout_kept(error, rows, completions) from error
        for column, values in (("mode", self._modes), ("answer_found", self._answers)):
            if values and len(values) != len(prompts):
                raise DataError(
                    f"A reward function called log_extra('{column}', ...) with {len(values)} values for "
                    f"{len(prompts)} completions; give one each, None where none was found."
                )
        if self.model.training:
            for sentence in self._silent.sentences(scores, self.state.global_step):
                self.notices(sentence)
        rewards_per_func = self._finite_rewards(scores)
        if self.model.training and (unscored := self._unscored.count(rewards_per_func, self.state.global_step)):
            self._metrics["train"]["grading/unscored"].append(unscored)
        self._local_lengths = torch.tensor([len(ids) for ids in completion_ids_list], device=self.accelerator.device)
        # The scores of all ranks come back; the rows of this rank are the ones that travel with the batch.
        start = self.accelerator.process_index * len(prompts)
        local = rewards_per_func[start : start + len(prompts)]
        weighted = (local * self.reward_weights.to(local.device)).nansum(dim=1)
        rewards = self._local_rewards = weighted.masked_fill(local.isnan().all(dim=1), float("nan"))
        if self._recorder is not None and self.model.training:
            self._recorder.start(
                inputs,
                completions,
                is_truncated=is_truncated,
                num_tokens=[len(ids) for ids in completion_ids_list],
                scores=dict(zip(self.reward_func_names, local.T.tolist(), strict=True)),
                rewards=rewards.tolist(),
                modes=self._modes,
            )
        return rewards_per_func

    @property
    def sampled_modes(self) -> list[str | None]:
        """See `relax_rl.training.inputs.provider.Trainer`."""
        return self._modes

    @property
    def sampled_answers(self) -> list[str | None]:
        """See `relax_rl.training.inputs.provider.Trainer`."""
        return self._answers

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        # What reward functions call as `log_extra`. TRL keeps the other columns for its own table of completions.
        texts = [None if value is None else str(value) for value in values]
        if column == "mode":
            self._modes = texts
        elif column == "answer_found":
            self._answers = texts
        else:
            super()._log_completion_extra(column, values)

    def _opened_thoughts(self, prompts: list[Any]) -> list[str]:
        """The marker of the thought that each prompt opens as the model reads it; "" for none."""
        found: list[str] = []
        for index, prompt in enumerate(prompts):
            if index and prompt == prompts[index - 1]:  # of one group
                found.append(found[-1])
                continue
            if not isinstance(prompt, str):
                prompt = self.processing_class.apply_chat_template(
                    prepare_multimodal_messages(prompt) if self._is_vlm else prompt,
                    chat_template=self.chat_template,
                    add_generation_prompt=True,
                    tokenize=False,
                    **self.chat_template_kwargs,
                )
            found.append(opened_thought(prompt))
        return found

    def _with_rollout_kept(self, error: DataError, inputs: list[dict[str, Any]], completions: list[Any]) -> DataError:
        """The error of a reward function, with the place of what it was given, for a look."""
        if self._recorder is None or not self.model.training:
            return error
        path = self._recorder.keep_failed(self.state.global_step + 1, inputs, completions)
        return DataError(f"{str(error).rstrip('.')}; the completions it was given are in {path}.")
