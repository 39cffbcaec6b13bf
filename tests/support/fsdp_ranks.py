"""`relax`, where FSDP2 shards on the CPU, too: accelerate takes it up on accelerators only."""

import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from relax_rl.cli.main import main

_original = AcceleratorState.__init__
_plugins: list[Any] = []


def _with_fsdp(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        _plugins[:] = [fsdp_plugin]
    # Every later construction would reset it.
    if _plugins and self.distributed_type == DistributedType.MULTI_CPU:
        self.fsdp_plugin, self.distributed_type = _plugins[0], DistributedType.FSDP


AcceleratorState.__init__ = _with_fsdp

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
