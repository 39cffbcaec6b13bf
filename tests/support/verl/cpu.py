# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""A platform "cpu" for verl, named by VERL_USE_EXTERNAL_MODULES and chosen by VERL_PLATFORM=cpu.

Ray counts logical GPUs, processes talk by gloo, and vLLM keeps weights that can be loaded again.
"""

import functools
import types
from contextlib import nullcontext

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

from support.vllm_cpu import keep_weights_loadable


def _module() -> types.ModuleType:
    module = types.ModuleType("torch.no_device")
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        setattr(module, name, lambda *args, **kwargs: 0)
    for name in ("empty_cache", "synchronize", "reset_peak_memory_stats", "set_device", "ipc_collect"):
        setattr(module, name, lambda *args, **kwargs: None)
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: torch.device("cpu")
    module.get_device_name = lambda *args, **kwargs: "cpu"
    module.get_device_properties = lambda *args, **kwargs: types.SimpleNamespace(total_memory=2**33, name="cpu")
    module.mem_get_info = lambda *args, **kwargs: (2**32, 2**33)
    module.manual_seed = module.manual_seed_all = torch.manual_seed
    module.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    module.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """Everything that verl asks of a device, answered for none."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return True

    def current_device(self):
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index) -> None: ...

    def synchronize(self, device_index=None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0):
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str):
        return nullcontext()

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self):
        return None


def _over_gloo() -> None:
    """verl asks for "cpu:gloo,cpu:gloo", which torch refuses."""
    from verl.utils import distributed

    original = distributed.initialize_global_process_group_ray
    distributed.initialize_global_process_group_ray = functools.partial(original, backend="gloo")


def _without_pinning() -> None:
    """FSDP2 offloads the reference's weights to pinned memory, which a CPU build of torch has not."""
    from torch.distributed.fsdp import CPUOffloadPolicy

    original = CPUOffloadPolicy.__init__
    CPUOffloadPolicy.__init__ = lambda self, pin_memory=False: original(self, pin_memory=False)


_without_pinning()
_over_gloo()
keep_weights_loadable()
