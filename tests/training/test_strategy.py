"""How processes share the model: what was asked for is what happens, or it is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from torch.distributed.fsdp import StateDictType

from relax_rl.config import TrainerConfig
from relax_rl.errors import ConfigError, DependencyError
from relax_rl.training.trl.config import grpo_config
from relax_rl.training.trl.strategy import check_strategy, held_parts, strategy_of
from support.launching import launched


def accelerator(kind: DistributedType, fsdp: tuple[int, Any] = (2, None), zero: dict[str, Any] | None = None) -> Any:
    version, state_dict_type = fsdp
    config = {} if zero is None else {"zero_optimization": zero}
    plugins = SimpleNamespace(
        fsdp_plugin=SimpleNamespace(fsdp_version=version, state_dict_type=state_dict_type),
        deepspeed_plugin=SimpleNamespace(zero_stage=3, deepspeed_config=config),
    )
    return SimpleNamespace(distributed_type=kind, state=plugins, device=torch.device("cpu"))


def asks(**settings: Any) -> Any:
    return SimpleNamespace(**{"fsdp": None, "deepspeed": None} | settings)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (DistributedType.NO, "one process"),
        (DistributedType.MULTI_CPU, "DDP"),
        (DistributedType.MULTI_GPU, "DDP"),
        (DistributedType.FSDP, "FSDP2"),
        (DistributedType.DEEPSPEED, "DeepSpeed ZeRO-3"),
        (DistributedType.XLA, "XLA"),
    ],
)
def test_a_strategy_has_a_name(kind: DistributedType, name: str) -> None:
    assert strategy_of(accelerator(kind)) == name


@pytest.mark.parametrize(
    ("settings", "environment", "kind", "refused"),
    [
        ({}, None, DistributedType.MULTI_CPU, None),
        ({"fsdp": True}, None, DistributedType.FSDP, None),
        ({"fsdp": True}, None, DistributedType.MULTI_CPU, "FSDP is asked for.*would be DDP on cpu"),
        ({}, "ACCELERATE_USE_FSDP", DistributedType.MULTI_CPU, "FSDP is asked for.*would be DDP on cpu"),
        ({}, "ACCELERATE_USE_FSDP", DistributedType.FSDP, None),
        ({"deepspeed": "zero.json"}, None, DistributedType.NO, "DeepSpeed is asked for.*would be one process"),
        ({"deepspeed": "zero.json"}, None, DistributedType.DEEPSPEED, None),
        ({}, "ACCELERATE_USE_DEEPSPEED", DistributedType.MULTI_GPU, "DeepSpeed is asked for.*would be DDP"),
    ],
)
def test_a_strategy_that_does_not_happen_is_refused(
    settings: dict[str, Any],
    environment: str | None,
    kind: DistributedType,
    refused: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)
    if environment is not None:
        monkeypatch.setenv(environment, "true")
    if refused is None:
        check_strategy(accelerator(kind), asks(**settings))
        return
    with pytest.raises(ConfigError, match=refused):
        check_strategy(accelerator(kind), asks(**settings))


def test_shards_that_leave_no_model_to_load_are_refused() -> None:
    fsdp = DistributedType.FSDP
    check_strategy(accelerator(fsdp, (2, StateDictType.FULL_STATE_DICT)), asks(fsdp=True))
    with pytest.raises(ConfigError, match=r"SHARDED_STATE_DICT holds no model .* set it to FULL_STATE_DICT"):
        check_strategy(accelerator(fsdp, (2, StateDictType.SHARDED_STATE_DICT)), asks(fsdp=True))
    with pytest.raises(ConfigError, match="FSDP1, which is not supported; set version = 2"):
        check_strategy(accelerator(fsdp, (1, None)), asks(fsdp=True))


@pytest.mark.parametrize(
    ("zero", "deepspeed", "expected"),
    [
        ({"stage": 3}, "zero.json", True),
        # What accelerate writes where nobody asked for anything.
        ({"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}, None, True),
        ({"stage": 2}, "zero.json", None),
    ],
)
def test_every_checkpoint_of_zero_3_holds_the_model(
    zero: dict[str, Any], deepspeed: str | None, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    check_strategy(accelerator(DistributedType.DEEPSPEED, zero=zero), asks(deepspeed=deepspeed))
    assert zero.get("stage3_gather_16bit_weights_on_model_save") == expected


def test_a_checkpoint_of_zero_3_without_the_model_is_refused() -> None:
    zero = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}
    with pytest.raises(ConfigError, match="no checkpoint would hold a model that can be loaded; set it to true"):
        check_strategy(accelerator(DistributedType.DEEPSPEED, zero=zero), asks(deepspeed="zero.json"))


def test_what_zero_3_keeps_beside_a_parameter_is_held() -> None:
    whole, parted = torch.ones(2), torch.empty(0)
    parted.ds_tensor = torch.full((3,), torch.nan)  # pyright: ignore[reportAttributeAccessIssue]
    assert [len(part) for part in held_parts([whole, parted])] == [2, 3]
    assert held_parts([parted])[0].isnan().all()


def test_settings_of_a_strategy_without_the_strategy_are_refused(tmp_path: Any) -> None:
    def configured(**settings: Any) -> Any:
        return grpo_config(TrainerConfig(**settings), tmp_path, use_cpu=True)

    with pytest.raises(ConfigError, match="'fsdp_config' has no effect without 'fsdp'; set fsdp = true"):
        configured(fsdp_config={"version": 2})
    with pytest.raises(ConfigError, match=r"TRL refuses .*No such file or directory: .*nowhere.json"):
        configured(fsdp=True, fsdp_config=str(tmp_path / "nowhere.json"))


def test_a_package_that_a_setting_needs_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise ImportError("No package metadata was found for\n  deepspeed>=0.9.3")

    monkeypatch.setattr("transformers.training_args.TrainingArguments.__post_init__", absent)
    with pytest.raises(DependencyError, match=r"a package that is not installed: No package .* deepspeed>=0\.9\.3"):
        grpo_config(TrainerConfig(), tmp_path, use_cpu=True)


TIMEOUT_OF_THE_GROUP = """
import sys
import torch
from pathlib import Path
from relax_rl.config import TrainerConfig
from relax_rl.training.trl.config import grpo_config

args = grpo_config(TrainerConfig(ddp_timeout=77), Path(sys.argv[1]), use_cpu=True)
group = torch.distributed.distributed_c10d._get_default_group()
seconds = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
Path(sys.argv[1], f"{args.process_index}.txt").write_text(f"{args.world_size} {seconds}")
torch.distributed.destroy_process_group()
"""


@pytest.mark.distributed
@pytest.mark.timeout(600)
def test_processes_wait_for_each_other_as_long_as_was_asked(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(TIMEOUT_OF_THE_GROUP)
    launched([str(script), str(tmp_path)], 2)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["2 77.0"] * 2
