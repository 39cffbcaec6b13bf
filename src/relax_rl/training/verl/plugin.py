"""Module that verl imports in each worker (``actor_rollout_ref.model.external_lib``): registers engine and worker."""

from __future__ import annotations

from relax_rl.training.verl.version import check_version

check_version()

from verl.utils.device import get_device_name  # noqa: E402
from verl.workers.engine.base import EngineRegistry  # noqa: E402
from verl.workers.engine_workers import ActorRolloutRefWorker  # noqa: E402

from relax_rl.training.verl.engine import RelaxEngine  # noqa: E402
from relax_rl.training.verl.worker import RelaxTrainingWorker  # noqa: E402

__all__ = ["register"]

_BACKENDS = ["fsdp", "fsdp2"]


def register() -> None:
    """Put the engine in the place of verl's own for language models, and the worker in that of the actor's."""
    device = get_device_name()
    if device == "cpu":
        # verl has no engine for the CPU, whose key is free.
        EngineRegistry.register("language_model", backend=_BACKENDS, device=device)(RelaxEngine)
    else:
        from verl.plugin.platform import get_platform

        # A vendor's engine goes before the one for all vendors of a device.
        vendor = get_platform().vendor_name
        EngineRegistry.register("language_model", backend=_BACKENDS, device=device, vendor=vendor)(RelaxEngine)
    ActorRolloutRefWorker.actor_worker_cls = RelaxTrainingWorker


register()
