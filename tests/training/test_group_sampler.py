"""Rollouts by the evaluation's sampler: the same completions however the batch is cut."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError
from relax_rl.runs import RunDirectory
from relax_rl.training.trl.group_sampler import group_sampler

pytestmark = pytest.mark.slow

SMALL = (
    "train",
    "countdown",
    "--objective=grpo",
    "--monitor=false",
    "--trainer.num_generations=4",
    "--trainer.max_completion_length=24",
    "--trainer.max_steps=2",
    "--evaluation.enabled=false",
)
UPDATE = 16
"""Completions of an update."""


def words(output: Path, micro_batch: int, processes: int = 1, *more: str) -> list[str]:
    accumulation = UPDATE // micro_batch // processes
    batch = (
        f"--trainer.per_device_train_batch_size={micro_batch}",
        f"--trainer.gradient_accumulation_steps={accumulation}",
    )
    return [*SMALL, "--output", str(output), *batch, *more]


def completions(output: Path) -> list[tuple[int, str, str]]:
    """(update, problem, text) of every completion, sorted."""
    rows = [row for update in sorted(output.glob("completions/*")) for row in map(json.loads, update.open())]
    assert rows
    return sorted((row["step"], row["problem_id"], row["completion"]) for row in rows)


def test_completions_do_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    assert main(words(tmp_path / "whole", UPDATE)) == 0
    assert main(words(tmp_path / "parts", UPDATE // 4)) == 0
    assert completions(tmp_path / "whole") == completions(tmp_path / "parts")
    texts = [text for _, _, text in completions(tmp_path / "whole")]
    assert len(texts) == 2 * UPDATE
    assert len(set(texts)) > UPDATE  # streams of their own: neither groups nor updates repeat each other


def test_nor_do_those_of_trunks_and_branches(tmp_path: Path) -> None:
    more = ("--sampling.trunks=2", "--sampling.branch_top=3", "--trainer.max_steps=1")
    assert main(words(tmp_path / "whole", UPDATE, 1, *more)) == 0
    assert main(words(tmp_path / "parts", UPDATE // 4, 1, *more)) == 0
    assert completions(tmp_path / "whole") == completions(tmp_path / "parts")
    assert engine(tmp_path / "whole") == "relax"


@pytest.mark.distributed
@pytest.mark.timeout(600)
def test_completions_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    assert main(words(tmp_path / "one", UPDATE // 2)) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "--", "relax_rl.cli.main"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*launcher, *words(tmp_path / "two", UPDATE // 2, 2)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert completions(tmp_path / "one") == completions(tmp_path / "two")


@pytest.mark.slow
def test_resumed_it_samples_what_it_would_have_sampled(tmp_path: Path) -> None:
    assert main([*words(tmp_path / "whole", UPDATE), "--trainer.save_steps=1"]) == 0
    assert main([*words(tmp_path / "again", UPDATE), "--trainer.save_steps=1"]) == 0
    run = RunDirectory.open(tmp_path / "again")
    (run.checkpoints / "checkpoint-2" / "manifest.json").unlink()
    assert main(["train", "--resume", "--output", str(run.path)]) == 0
    assert completions(tmp_path / "again") == completions(tmp_path / "whole")


def test_an_occasion_names_each_group_once() -> None:
    sampler = group_sampler(arguments())
    rows = [{"problem_id": name} for name in "aabbaa"]
    assert sampler.occasions(rows, "update 3") == ["update 3/0/a", "update 3/0/b", "update 3/1/a"]
    plain = [{"prompt": [{"role": "user", "content": "2+2"}]}] * 2
    assert sampler.occasions(plain, "update 3") == ['update 3/0/[{"content": "2+2", "role": "user"}]']


def arguments(**other: object) -> SimpleNamespace:
    defaults: dict[str, object] = {
        "use_vllm": False, "num_generations": 2, "max_completion_length": 8, "temperature": 1.0, "top_p": 1.0,
        "seed": 0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None,
        "cache_implementation": None, "ds3_gather_for_generation": True,
    }  # fmt: skip
    return SimpleNamespace(**defaults | other)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("top_k", 5),
        ("min_p", 0.1),
        ("repetition_penalty", 1.1),
        ("generation_kwargs", {"top_k": 3}),
        ("cache_implementation", "static"),
    ],
)
def test_what_it_cannot_do_is_refused_or_left_to_generate(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"does not know trainer\.{setting} = .*sampling\.engine = generate"):
        group_sampler(arguments(**{setting: value}))
    assert group_sampler(arguments(**{setting: value}), "auto") is None


def test_two_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="two engines"):
        group_sampler(arguments(use_vllm=True))
    assert group_sampler(arguments(use_vllm=True), "auto") is None


def test_weights_that_are_never_gathered_are_refused_or_left_to_generate() -> None:
    args = arguments(deepspeed="zero.json", ds3_gather_for_generation=False)
    with pytest.raises(ConfigError, match=r"gathers weights, and trainer.ds3_gather_for_generation is false"):
        group_sampler(args)
    assert group_sampler(args, "auto") is None


def test_it_samples_wherever_it_can() -> None:
    assert group_sampler(arguments(), "generate") is None
    assert group_sampler(arguments(), "auto") == group_sampler(arguments()) is not None


def test_the_command_refuses_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words_of = functools.partial(words, tmp_path / "run", UPDATE, 1, "--sampling.engine=relax")
    assert main(words_of("--trainer.top_k=5")) == 2
    assert "trainer.top_k = 5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# Which one ran ---------------------------------------------------------------------------------------------------


def engine(output: Path) -> str:
    return RunDirectory.open(output).read_config().sampling.engine


def test_the_run_says_what_sampled(tmp_path: Path) -> None:
    assert main(words(tmp_path / "ours", UPDATE, 1, "--trainer.max_steps=1")) == 0
    assert main(words(tmp_path / "trl", UPDATE, 1, "--trainer.max_steps=1", "--trainer.top_k=5")) == 0
    assert (engine(tmp_path / "ours"), engine(tmp_path / "trl")) == ("relax", "generate")


@pytest.mark.slow
def test_a_run_from_before_the_setting_resumes_with_generate(tmp_path: Path) -> None:
    old = ["--sampling.engine=generate", "--trainer.save_steps=1"]
    for name in ("whole", "again"):
        assert main(words(tmp_path / name, UPDATE, 1, *old)) == 0
    run = RunDirectory.open(tmp_path / "again")
    (run.checkpoints / "checkpoint-2" / "manifest.json").unlink()
    for path in (run.config_path, run.checkpoints / "checkpoint-1" / "manifest.json"):
        written = json.loads(path.read_text())
        settings = written if path == run.config_path else written["run"]["settings"]
        del settings["sampling"]["engine"]
        path.write_text(json.dumps(written))
    assert main(["train", "--resume", "--output", str(run.path)]) == 0
    assert engine(run.path) == "generate"
    assert completions(run.path) == completions(tmp_path / "whole")


def test_a_resumed_run_keeps_its_sampler_whatever_the_config_asks_now(tmp_path: Path) -> None:
    assert main(words(tmp_path / "run", UPDATE, 1, "--sampling.engine=generate", "--trainer.save_steps=1")) == 0
    (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "manifest.json").unlink()
    again = [*words(tmp_path / "run", UPDATE, 1, "--trainer.save_steps=1"), "--resume"]
    assert main([*again, "--sampling.engine=relax"]) == 1 or main([*again, "--sampling.engine=relax"]) == 2
    assert main(again) == 0
    assert engine(tmp_path / "run") == "generate"
