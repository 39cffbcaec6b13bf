"""verl's `main_ppo` with Ray and vLLM on the CPU, from what `relax verl-config` writes: killed, resumed, two ranks."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.koopman import KoopmanDictionary
from support.verl.environment import ABSENT, variables, verl_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.timeout(4000),
    pytest.mark.skipif(verl_python() is None, reason=ABSENT),
]

# Two rollout batches, each of which serves two updates.
SETTINGS = {
    "trainer.max_steps": 4,
    "trainer.save_steps": 2,
    "trainer.steps_per_generation": 4,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 2,
    "evaluation.num_problems": 4,
    "evaluation.before": "false",
    "dictionary.steps": 5,
    "dictionary.num_observables": 8,
    "objective.xi": "quantile:0.5",
}
ON_CPU = [
    "data.max_prompt_length=64",
    "actor_rollout_ref.rollout.enforce_eager=True",
    "actor_rollout_ref.rollout.dtype=float32",
    "actor_rollout_ref.rollout.free_cache_engine=False",
    "+actor_rollout_ref.rollout.enable_sleep_mode=False",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "reward.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "ray_kwargs.ray_init.num_cpus=8",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.3",
    "actor_rollout_ref.actor.use_torch_compile=False",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
    "actor_rollout_ref.ref.use_torch_compile=False",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32",
    "+actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=fp32",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
]


TOKENS = [
    "actor_rollout_ref.actor.use_dynamic_bsz=True",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1200",
]
CORRECTED = ["algorithm.rollout_correction.rollout_is=token", "algorithm.rollout_correction.bypass_mode=False"]
ON_ONE_RANK = [*TOKENS, *CORRECTED]
PADDED = ["actor_rollout_ref.model.use_remove_padding=False"]


def config_for(folder: Path, ranks: int, **more: Any) -> None:
    words = [word for key, value in (SETTINGS | more).items() for word in (f"--{key}", str(value))]
    asked = ["--output", str(folder), "--gpus", str(ranks), "--train-problems", "64"]
    assert main(["verl-config", "countdown", *asked, *words]) == 0


def launch(folder: Path, ranks: int, *overrides: str) -> subprocess.Popen[str]:
    """``launch.sh`` in a session of its own, its output in ``log.txt``."""
    python = verl_python()
    assert python is not None
    more = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = ["bash", str(folder / "launch.sh"), *ON_CPU, f"+ray_kwargs.ray_init.num_gpus={ranks}", *overrides]
    with (folder / "log.txt").open("w") as log:
        environment = variables(**more, VLLM_CPU_OMP_THREADS_BIND="nobind")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)


def members(session: int) -> list[int]:
    """The processes of a session, but those that wait to be reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def end(process: subprocess.Popen[str]) -> None:
    """Kill what a launch started, Ray's daemons and workers included."""
    while found := members(process.pid):
        for one in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.poll()
        time.sleep(0.1)
    process.wait()


def finished(folder: Path, ranks: int, *overrides: str) -> str:
    process = launch(folder, ranks, *overrides)
    try:
        code = process.wait(timeout=1800)
    finally:
        end(process)
    log = (folder / "log.txt").read_text()
    assert code == 0, log[-4000:]
    return log


def state_at(folder: Path, step: int) -> dict[str, Any]:
    """Of the objective beside the shards of a checkpoint."""
    kept = folder / f"checkpoints/global_step_{step}/actor"
    state = json.loads((kept / "objective.json").read_text())
    assert KoopmanDictionary.load(kept / "dictionary.safetensors").digest == state["dictionary_digest"]
    return state


def logged(log: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf"[ -]{re.escape(name)}:([0-9.e-]+)", log)]


def dispersions(log: str) -> list[float]:
    return logged(log, "actor/relax/latent/dsd")


def test_a_run_by_relax_is_killed_and_goes_on_with_its_dictionary(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config_for(folder, 1)
    # Long enough that it is under way when it is killed, however late that is.
    endless = ["trainer.total_training_steps=1000", "trainer.total_epochs=1000", "trainer.max_actor_ckpt_to_keep=2"]
    process = launch(folder, 1, *ON_ONE_RANK, *endless)
    latest = folder / "checkpoints/latest_checkpointed_iteration.txt"
    try:
        deadline = time.monotonic() + 1800
        while not latest.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert latest.exists(), (folder / "log.txt").read_text()[-4000:]
    finally:
        end(process)
    assert "relax_rl: the actor is trained by relax" in (folder / "log.txt").read_text()
    before = int(latest.read_text())
    killed = state_at(folder, before)
    assert killed["updates"] == 2 * before
    steps = [f"trainer.total_training_steps={before + 1}", f"trainer.total_epochs={before + 1}"]
    log = finished(folder, 1, *ON_ONE_RANK, *steps)
    assert len(dispersions(log)) == 1
    assert 0 < dispersions(log)[0] < 1
    state = state_at(folder, before + 1)
    assert state["updates"] == 2 * (before + 1)
    assert [state[key] for key in ("dictionary_digest", "xi")] == [killed[key] for key in ("dictionary_digest", "xi")]


def test_two_ranks_of_padded_rows_end_after_two_steps(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config_for(folder, 2)
    found = dispersions(finished(folder, 2, *PADDED))
    assert len(found) == 2
    assert all(0 < value < 1 for value in found)
    digests = {(state["dictionary_digest"], state["xi"]) for state in (state_at(folder, step) for step in (1, 2))}
    assert len(digests) == 1


def test_an_adapter_is_trained_and_sampled_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # At this step size, a vLLM without the adapter would soon disagree with the actor.
    config_for(folder, 1, **{"peft.r": 4, "peft.lora_alpha": 8, "trainer.learning_rate": 0.01})
    log = finished(folder, 1, *ON_ONE_RANK)
    assert len(dispersions(log)) == 2
    # The reference is the actor with its adapter off.
    first, second = logged(log, "actor/relax/kl")
    assert second > 10 * first > 0
    differences = logged(log, "training/rollout_probs_diff_mean")
    assert len(differences) == 2
    assert all(value < 0.002 for value in differences), differences
    adapter = json.loads((folder / "checkpoints/global_step_2/actor/lora_train_meta.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (4, 8)
    assert state_at(folder, 2)["updates"] == 4
