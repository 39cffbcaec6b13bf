"""Telemetry of the libraries below, off by default.

TRL reports each training to the Hub (model architecture, device, number of processes), and others have habits of their
own. The switches are environment variables that a library reads when it is imported, so they are set before any is. A
variable that is set already stays: ``DO_NOT_TRACK=0 HF_HUB_DISABLE_TELEMETRY=0`` lets the Hub's through.
"""

from __future__ import annotations

import os
import sys

__all__ = ["SWITCHES", "switch_off"]

SWITCHES = {
    "DO_NOT_TRACK": "1",  # huggingface_hub, vLLM, MLflow and others
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers, TRL, datasets, PEFT, Gradio
    "GRADIO_ANALYTICS_ENABLED": "False",  # trackio
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables, and the values that switch telemetry off."""


def switch_off() -> None:
    """Set what is not set yet; a program may have imported the Hub's library before this package."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None and os.environ["HF_HUB_DISABLE_TELEMETRY"] == SWITCHES["HF_HUB_DISABLE_TELEMETRY"]:
        constants.HF_HUB_DISABLE_TELEMETRY = True  # pyright: ignore[reportAttributeAccessIssue]
