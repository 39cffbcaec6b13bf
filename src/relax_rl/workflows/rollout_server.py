"""A vLLM server that a run samples from: whether it is there and takes weights, asked before anything is loaded."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from relax_rl.errors import ConfigError

__all__ = ["check_rollout_server"]

_PAUSE_S = 2.0
_REPLY_S = 10.0
_START = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs "
    '--weight-transfer-config \'{"backend": "nccl"}\''
)


def check_rollout_server(args: Any, wait: Callable[[float], object] = time.sleep) -> None:
    """Refuse a run whose server does not answer within `vllm_server_timeout`, or would not take its weights.

    Args:
        args: TRL's configuration.
        wait: takes seconds.

    Raises:
        ConfigError: naming the address and what to start.
    """
    if not args.use_vllm or args.vllm_mode != "server":
        return
    if args.use_cpu:
        raise ConfigError(
            "trainer.vllm_mode = server sends the weights of each update by NCCL, which needs a GPU, and this run is "
            "on the CPU; set --trainer.vllm_mode colocate, or leave trainer.use_vllm out."
        )
    address = args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"
    waited = 0.0
    while (reply := _reply(f"{address}/health")) is None or reply[0] != 200:
        if waited >= args.vllm_server_timeout:
            raise ConfigError(
                f"No vLLM server answers at {address} (trainer.vllm_mode = server, waited "
                f"{args.vllm_server_timeout:g} s); start one with {_START}, or name it by trainer.vllm_server_base_url."
            )
        wait(_PAUSE_S)
        waited += _PAUSE_S
    status, body = _reply(f"{address}/server_info?config_format=json") or (0, b"")
    if status != 200:
        raise ConfigError(
            f"The vLLM server at {address} does not answer at /server_info ({status}), which its rollouts need; start "
            f"it with {_START}."
        )
    if not _takes_weights(body):
        raise ConfigError(f"The vLLM server at {address} takes no weights of a trainer; start it with {_START}.")


def _reply(address: str) -> tuple[int, bytes] | None:
    """Status and body; None where nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=_REPLY_S) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except (OSError, ValueError):
        return None


def _takes_weights(body: bytes) -> bool:
    try:
        return json.loads(body)["vllm_config"]["weight_transfer_config"] is not None
    except (ValueError, KeyError, TypeError):
        return False
