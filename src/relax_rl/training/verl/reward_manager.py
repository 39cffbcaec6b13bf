"""verl's reward manager, which also tells the reward function that the length limit cut a completion."""

from __future__ import annotations

from typing import Any

from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

__all__ = ["RelaxRewardManager"]


class RelaxRewardManager(NaiveRewardManager):
    """An answer that the limit cut is none: "12" may be the beginning of "123"."""

    config: Any
    tokenizer: Any

    async def run_single(self, data: Any) -> dict[str, Any]:
        """See `NaiveRewardManager.run_single`."""
        row = data[-1:][0]
        responses = row.batch["responses"]
        length = int(row.batch["attention_mask"][-responses.shape[-1] :].sum())
        limit = int(self.config.data.max_response_length)
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        info = data.non_tensor_batch["extra_info"][-1]
        info["truncated"] = length >= limit and int(responses[length - 1]) not in ends
        return await super().run_single(data)
