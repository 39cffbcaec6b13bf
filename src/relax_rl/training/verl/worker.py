"""verl's training worker, with whole groups in every update and, where they fit, on one process."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from verl.utils import tensordict_utils as verl_rows
from verl.workers.engine_workers import TrainingWorker

from relax_rl.training.verl.exchange import exchanged, from_all
from relax_rl.training.verl.groups import dealt, layout_of
from relax_rl.training.verl.policy_loss import RelaxPolicyLossConfig
from relax_rl.training.verl.rows import rows_of

__all__ = ["RelaxTrainingWorker", "brought_together", "rows_of_update"]


class RelaxTrainingWorker(TrainingWorker):
    """Brings the completions of each prompt together before verl cuts a rollout batch into updates."""

    # verl leaves it open; a `functools.partial` of its PPO loss with the actor's configuration.
    loss_fn: Any

    def train_mini_batch(self, data: Any) -> Any:
        """See `TrainingWorker.train_mini_batch`. Collective."""
        config = self.loss_fn.keywords["config"]
        if type(config.policy_loss) is RelaxPolicyLossConfig:
            engine: Any = self.engine
            size = rows_of_update(data, engine.get_data_parallel_size())
            data = brought_together(data, engine.get_data_parallel_group(), config.rollout_n, size)
            epochs = verl_rows.get(data, "epochs", default=1)
            num_updates = len(data) * engine.get_data_parallel_size() // size * epochs
            engine.begin_rollout(self._with_defaults(data), self.loss_fn, num_updates)
        return super().train_mini_batch(data)

    def _with_defaults(self, data: Any) -> Any:
        """The settings of a pass that verl's `train_batch` would fill in later."""
        own: Any = self.engine_config
        model: Any = self.model_config
        defaults = {
            "use_remove_padding": model.get("use_remove_padding", False),
            "use_dynamic_bsz": own.use_dynamic_bsz,
            "max_token_len_per_gpu": own.max_token_len_per_gpu,
            "micro_batch_size_per_gpu": own.micro_batch_size_per_gpu,
            "use_fused_kernels": own.use_fused_kernels,
        }
        missing = {key: value for key, value in defaults.items() if key not in data.keys()}  # noqa: SIM118 (a TensorDict)
        return verl_rows.assign_non_tensor(data, **missing)


# verl finds a worker's methods by what its decorator left on them.
vars(RelaxTrainingWorker.train_mini_batch).update(vars(TrainingWorker.train_mini_batch))


def rows_of_update(data: Any, num_processes: int) -> int:
    """Rows of an update on all processes, as verl's `train_mini_batch` will cut them."""
    size = verl_rows.get(data, "mini_batch_size", default=None)
    return size or len(data) * num_processes // verl_rows.get(data, "num_mini_batch", default=1)


def brought_together(data: Any, group: Any, group_size: int, size: int) -> Any:
    """As many rows as before, dealt again so that no update breaks a group. Collective.

    Ids and log-probabilities travel, some 32 bytes a token, and not the activations.

    Args:
        size: rows of an update on all processes.
    """
    rows = from_all(rows_of(data), group)
    plan = dealt(rows, layout_of(rows, group_size), size)
    rank = distributed.get_rank(group)
    # What is said of the whole batch and not of a row stays.
    shared = {key: value for key, value in data.items() if not value.shape}
    own = data.exclude(*shared)
    outgoing = [_taken(own, [place for source, place in wanted if source == rank]) for wanted in plan]
    incoming = exchanged(outgoing, group)
    together = verl_rows.concat_tensordict([part for part in incoming if part is not None])
    # The rows of each source came in the order of the plan, and the sources one after the other.
    arrived = sorted(range(len(plan[rank])), key=lambda place: (plan[rank][place][0], place))
    found = verl_rows.index_select_tensor_dict(together, torch.tensor(arrived).argsort())
    return verl_rows.assign_non_tensor(found, **shared)


def _taken(data: Any, places: list[int]) -> Any:
    return verl_rows.index_select_tensor_dict(data, places) if places else None
