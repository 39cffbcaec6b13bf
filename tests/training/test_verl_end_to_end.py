"""verl's `main_ppo` with Ray and vLLM on the CPU, from what `relax verl-config` writes: two steps by ReLaX."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from relax_rl.cli.main import main
from relax_rl.koopman import KoopmanDictionary
from support.verl.environment import ABSENT, variables, verl_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(verl_python() is None, reason=ABSENT),
]

SETTINGS = {
    "trainer.max_steps": 2,
    "trainer.save_steps": 1,
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
    "+ray_kwargs.ray_init.num_gpus=1",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.3",
    "actor_rollout_ref.actor.use_torch_compile=False",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
    "actor_rollout_ref.ref.use_torch_compile=False",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32",
    "+actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=fp32",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
]


def test_two_steps_by_relax_and_the_dictionary_beside_the_shards(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    assert (
        main(["verl-config", "countdown", "--output", str(folder), "--gpus", "1", "--train-problems", "64", *words])
        == 0
    )
    python = verl_python()
    assert python is not None
    more = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        ["bash", str(folder / "launch.sh"), *ON_CPU],
        env=variables(**more, VLLM_CPU_OMP_THREADS_BIND="nobind"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "relax_rl: the actor is trained by relax" in done.stdout
    found = re.findall(r"actor/relax/latent/dsd:([0-9.e-]+)", done.stdout)
    assert len(found) == 2
    assert all(0 < float(value) < 1 for value in found)
    digests = set()
    for step in (1, 2):
        kept = folder / f"checkpoints/global_step_{step}/actor"
        state = json.loads((kept / "objective.json").read_text())
        assert KoopmanDictionary.load(kept / "dictionary.safetensors").digest == state["dictionary_digest"]
        digests.add((state["dictionary_digest"], state["xi"]))
    assert len(digests) == 1
