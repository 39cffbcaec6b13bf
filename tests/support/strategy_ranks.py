"""`relax`, where FSDP2 shards on the CPU, too, and all processes of a run can be killed at one point.

FSDP: accelerate takes it up on accelerators only. KILL_IN_UPDATE=3 kills every process in its third update, after the
rollouts and before the optimiser's step.
"""

import os
import signal
import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from relax_rl.cli.main import main
from relax_rl.training.trl.recorder import RolloutRecorder

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

_finish = RolloutRecorder.finish


def _killed(self: Any, step: int) -> None:
    _finish(self, step)
    if step == int(os.environ.get("KILL_IN_UPDATE", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


RolloutRecorder.finish = _killed

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
