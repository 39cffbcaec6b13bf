"""The minor versions of TRL that are accepted, and what the older of them lacks."""

from __future__ import annotations

import os
from typing import Any

from packaging.version import Version

from relax_rl.errors import DependencyError

__all__ = ["TESTED_TRL", "check_trains_on", "check_trl_version", "reference_options"]

TESTED_TRL = ("1.15", "1.17")
"""The adapter rests on details of TRL; it was tested from the first version up to, not including, the second."""

_COMPLETE = Version("1.16")
"""From here on, TRL's fused head has a form in torch for devices that Triton does not compile for, and a reference
model is loaded in the precision of a policy in memory."""


def _installed() -> Version:
    import trl

    return Version(trl.__version__)


def check_trl_version() -> None:
    """Refuse a TRL that was not tested.

    Raises:
        DependencyError: outside the tested range.
    """
    low, high = TESTED_TRL
    if not Version(low) <= _installed() < Version(high):
        raise DependencyError(
            f"TRL {_installed()} was not tested with this version of relax-rl; install trl>={low},<{high}."
        )


def check_trains_on(device: str) -> None:
    """Refuse a TRL that cannot train on a device.

    Args:
        device: its type, such as "cuda".

    Raises:
        DependencyError: naming the version that can.
    """
    # Triton's own interpreter runs its kernels on a CPU.
    runs_triton = device in ("cuda", "xpu") or os.environ.get("TRITON_INTERPRET") == "1"
    if _installed() < _COMPLETE and not runs_triton:
        raise DependencyError(
            f"TRL {_installed()} computes log-probabilities with Triton, which does not run on '{device}'; install "
            f"trl>={_COMPLETE},<{TESTED_TRL[1]}, or train on a GPU."
        )


def reference_options(policy: Any, options: Any) -> Any:
    """Arguments of the reference model's `from_pretrained`, with what TRL does not add to them on its own.

    Args:
        policy: the model to train, or its name.
        options: those that were given; None for none.
    """
    if isinstance(policy, str) or _installed() >= _COMPLETE:
        return options
    own = {"dtype": policy.dtype, "attn_implementation": policy.config._attn_implementation}
    return own | (options or {})
