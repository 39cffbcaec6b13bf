# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Gradients of verl's engine with our objectives against plain autograd; run by torchrun, writes one JSON a rank 0.

torchrun --nproc_per_node N tests/support/verl/engine_ranks.py FOLDER CASES.json
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from tensordict import TensorDict
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as verl_rows
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

from relax_rl.objectives import RolloutBatch, build_objective
from relax_rl.training.verl.groups import layout_of
from relax_rl.training.verl.rows import rows_of
from relax_rl.training.verl.sampled import sampled_rows
from support.verl.ulysses import NAME as ULYSSES

PROMPTS, GROUP = 4, 4
FIT = {"num_observables": 6, "steps": 3}


def case_batch(seed: int = 0) -> dict:
    """Rows of four prompts, the completions of a prompt of different lengths, some with tool tokens inside."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.rand(size, generator=generator)

    rows = []
    for prompt in range(PROMPTS):
        question = torch.randint(1, 60, (3 + prompt,), generator=generator)
        for member in range(GROUP):
            length = 14 + int(draw(1).item() * 8)
            mask = torch.ones(length, dtype=torch.int64)
            if member == 1:
                mask[4:6] = 0  # what a tool wrote
            rows.append(
                {
                    "uid": f"prompt {prompt}",
                    "prompts": question,
                    "responses": torch.randint(1, 60, (length,), generator=generator),
                    "response_mask": mask,
                    "old_log_probs": -4 - 0.3 * draw(length),
                    "ref_log_prob": -4 - 0.3 * draw(length),
                    "rollout_is_weights": 0.8 + 0.4 * draw(length),
                    "rm_scores": torch.zeros(length).index_fill(0, torch.tensor([length - 1]), float(draw(1) < 0.5)),
                }
            )
    # A group of equal rewards teaches nothing: each has a right and a wrong one.
    for prompt in range(PROMPTS):
        rows[prompt * GROUP]["rm_scores"][-1], rows[prompt * GROUP + 1]["rm_scores"][-1] = 1.0, 0.0
    return {"rows": rows}


def padding_row(rows: list[dict]) -> dict:
    row = {**rows[0], "responses": torch.tensor([1]), "response_mask": torch.tensor([0])}
    zero = torch.zeros(1)
    return row | dict.fromkeys(("old_log_probs", "ref_log_prob", "rollout_is_weights", "rm_scores"), zero)


def as_verl(rows: list[dict], settings: dict) -> TensorDict:
    """The rows as verl's trainer hands them to a worker."""
    nested = {
        name: torch.nested.as_nested_tensor([row[name] for row in rows], layout=torch.jagged)
        for name in rows[0]
        if name != "uid"
    }
    ids = [torch.cat([row["prompts"], row["responses"]]) for row in rows]
    nested["input_ids"] = torch.nested.as_nested_tensor(ids, layout=torch.jagged)
    nested["position_ids"] = torch.nested.as_nested_tensor([torch.arange(len(one)) for one in ids], layout=torch.jagged)
    nested["loss_mask"] = nested["response_mask"].clone()
    data = TensorDict(nested, batch_size=[len(rows)])
    verl_rows.assign_non_tensor_stack(data, "uid", [row["uid"] for row in rows])
    return verl_rows.assign_non_tensor(data, **settings)


def build_engine(folder: str, case: dict):
    from relax_rl.training.verl.engine import RelaxEngine

    parts = case.get("parts", 1)
    lora = {"lora_rank": 4, "lora_alpha": 8} if case.get("lora") else {}
    model = HFModelConfig(
        path=folder,
        load_tokenizer=False,
        use_remove_padding=case["packed"],
        enable_gradient_checkpointing=case.get("checkpointing", False),
        override_config={"attn_implementation": ULYSSES if parts > 1 else "sdpa"},
        use_fused_kernels=case.get("fused", False),
        fused_kernel_options={"impl_backend": "torch"},
        **lora,
    )
    engine = FSDPEngineConfig(
        strategy="fsdp2",
        mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32"},
        use_torch_compile=False,
        use_dynamic_bsz=False,
        ulysses_sequence_parallel_size=parts,
    )
    optimizer = FSDPOptimizerConfig(lr=0.0, total_training_steps=10)
    built = RelaxEngine(model, engine, optimizer, CheckpointConfig())
    built.initialize()
    return built


def loss_of(case: dict):
    """What verl hands an engine: its own loss, with the actor's configuration."""
    from functools import partial

    from relax_rl.training.verl.policy_loss import RelaxPolicyLossConfig

    chosen = RelaxPolicyLossConfig(objective=case["method"], options=case["options"], max_completion_length=24)
    config = SimpleNamespace(policy_loss=chosen, rollout_n=GROUP, kl_loss_coef=0.0, use_kl_loss=True, entropy_coeff=0.0)
    return partial(lambda **kwargs: None, config=config)


def full(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def gradient_of(engine) -> dict[str, torch.Tensor]:
    parameters = engine.module.named_parameters()
    return {name: full(one.grad) for name, one in parameters if one.grad is not None}


def with_adapter(model, weights: dict[str, torch.Tensor]):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", bias="none"))
    adapted.load_state_dict(weights, strict=False)
    return adapted


def plain_batch(folder: str, rows: list[dict], case: dict, weights) -> tuple:
    """The rows as whole groups by one padded forward of an unsharded model, and that model."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    ids = [torch.cat([row["prompts"], row["responses"]]) for row in rows]
    width = max(map(len, ids))
    input_ids = torch.stack([torch.nn.functional.pad(one, (0, width - len(one))) for one in ids])
    mask = torch.stack([torch.arange(width) < len(one) for one in ids]).long()
    adapted = with_adapter(model, weights) if case.get("lora") else model
    states = model.model(input_ids=input_ids, attention_mask=mask).last_hidden_state
    logits = model.lm_head(states)
    log_softmax = logits.log_softmax(-1)

    def padded(tensors):
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)

    log_probs, entropy, own_states = [], [], []
    for place, row in enumerate(rows):
        start, length = len(row["prompts"]), len(row["responses"])
        at = slice(start - 1, start + length - 1)
        log_probs.append(log_softmax[place, at].gather(-1, row["responses"][:, None]).squeeze(-1))
        entropy.append(-(log_softmax[place, at].exp() * log_softmax[place, at]).sum(-1))
        own_states.append(states[place, start : start + length])

    def grouped(tensor):
        return tensor.unflatten(0, (-1, GROUP))

    def column(name):
        return grouped(padded([row[name] for row in rows]))

    batch = RolloutBatch(
        log_probs=grouped(padded(log_probs)),
        old_log_probs=column("old_log_probs"),
        mask=column("response_mask").bool(),
        rewards=grouped(torch.tensor([float(row["rm_scores"].sum()) for row in rows])),
        ref_log_probs=column("ref_log_prob"),
        entropy=grouped(padded(entropy)),
        hidden_states=grouped(padded(own_states)),
        sampling_weights=column("rollout_is_weights"),
    )
    return batch, adapted


def expected(folder: str, rows: list[dict], case: dict, probe, weights) -> tuple[float, dict[str, torch.Tensor]]:
    """The objective on whole groups."""
    batch, model = plain_batch(folder, rows, case, weights)
    objective = build_objective(case["method"], **case["options"])
    loss = (objective if probe is None else objective.with_probe(probe))(batch).loss
    loss.backward()
    return float(loss.detach()), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def calibration(folder: str, rows: list[dict], case: dict, probe, weights) -> dict[str, float]:
    """How far the dictionary and xi are from those of one process and one forward."""
    batch, _ = plain_batch(folder, rows, case, weights)
    given = [rows_of(as_verl(rows, settings_of(case, len(rows))))]
    order = [*sampled_rows(given, layout_of(given, GROUP), 0)]
    states, mask = batch.hidden_states.detach().flatten(0, 1)[order], batch.mask.flatten(0, 1)[order]
    plain = build_objective(case["method"], **case["options"]).calibrated(states, mask)
    weight, own = plain.probe.dictionary.weight, probe.dictionary.weight
    return {
        "dictionary": float((own - weight).norm() / weight.norm()),
        "xi": abs(probe.bound.value / plain.probe.bound.value - 1),
    }


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    difference = sum((found[name].double() - one.double()).square().sum() for name, one in wanted.items())
    return float((difference / sum(one.double().square().sum() for one in wanted.values())).sqrt())


def own_rows(rows: list[dict], case: dict, rank: int, size: int) -> list[dict]:
    """Those of one data-parallel process. "split": dealt out in turn, so that no group lies on one process."""
    if case["groups"] == "split":
        return rows[rank::size]
    return rows[rank * len(rows) // size : (rank + 1) * len(rows) // size]


def settings_of(case: dict, num_rows: int) -> dict:
    settings = {
        "temperature": 1.0,
        "use_remove_padding": case["packed"],
        "use_fused_kernels": case.get("fused", False),
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": case["micro"],
        "global_batch_size": num_rows,
        "calculate_entropy": False,
    }
    if "tokens" in case:
        settings |= {"use_dynamic_bsz": True, "max_token_len_per_gpu": case["tokens"]}
    return settings


def run(folder: str, case: dict) -> dict:
    rows = case_batch()["rows"]
    folder = f"{folder}/tied" if case.get("tied") else folder
    torch.manual_seed(0)
    engine = build_engine(folder, case)
    rank, size, world = engine.get_data_parallel_rank(), engine.get_data_parallel_size(), distributed.get_world_size()
    settings, group = settings_of(case, len(rows)), engine.get_data_parallel_group()
    own = own_rows(rows, case, rank, size)
    if case.get("padding"):
        own = [*own, *[padding_row(rows)] * case["micro"]]
    data = as_verl(own, settings)
    if case["groups"] == "brought":
        from relax_rl.training.verl.worker import brought_together

        data = brought_together(as_verl(rows[rank::size], settings), group, GROUP, len(rows))
    loss_function = loss_of(case)
    engine.begin_rollout(data, loss_function, 1)
    learned = rows
    if case.get("mini_batch"):
        # Of a rollout batch that serves two updates, the first group of each process.
        data = as_verl(own[:GROUP], settings)
        learned = [row for place in range(size) for row in own_rows(rows, case, place, size)[:GROUP]]
    with engine.train_mode():
        engine.optimizer_zero_grad()
        outputs = engine.forward_backward_batch(data, loss_function, forward_only=False)
        found = gradient_of(engine)
    loss = torch.tensor(sum(outputs["loss"]))
    distributed.all_reduce(loss)
    result = {"loss": float(loss) / world, "metrics": {name: value[0] for name, value in outputs["metrics"].items()}}
    probe = engine.objective.probe
    digests = [None] * world
    distributed.all_gather_object(digests, None if probe is None else (probe.dictionary.digest, probe.bound.value))
    result["digests"] = digests
    weights = {name: full(one) for name, one in engine.module.named_parameters()}
    if distributed.get_rank() == 0:
        wanted_loss, wanted = expected(folder, learned, case, probe, weights)
        result |= {"difference": relative(found, wanted), "wanted": wanted_loss}
        if probe is not None:
            result["calibration"] = calibration(folder, rows, case, probe, weights)
    if case.get("saves"):
        result |= saved_and_restored(folder, case, engine)
    return result


def saved_and_restored(folder: str, case: dict, engine) -> dict:
    place = f"{folder}/checkpoint"
    engine.save_checkpoint(place, global_step=1)
    again = build_engine(folder, case)
    again.load_checkpoint(place, del_local_after_load=False)
    restored = again._objective_of(loss_of(case))
    old, new = engine.objective.probe, restored.probe
    return {
        "restored": [old.dictionary.digest == new.dictionary.digest, old.bound.value == new.bound.value],
        "updates": again._num_updates,
    }


def write_model(folder: str, *, is_tied: bool) -> None:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=is_tied,
        architectures=["Qwen2ForCausalLM"],
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def main() -> None:
    folder, cases = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    if distributed.get_rank() == 0 and not (Path(folder) / "config.json").exists():
        write_model(folder, is_tied=False)
        write_model(f"{folder}/tied", is_tied=True)
    distributed.barrier()
    results, forward = {}, Qwen2ForCausalLM.forward
    for name, case in cases.items():
        Qwen2ForCausalLM.forward = forward  # which fused kernels replace for good
        try:
            results[name] = run(folder, case)
        except Exception as error:
            import traceback

            traceback.print_exc()
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    if distributed.get_rank() == 0:
        (Path(folder) / "results.json").write_text(json.dumps(results, indent=2))
    distributed.barrier()
    distributed.destroy_process_group()
    # Threads of gloo may outlive the interpreter, and take the exit code with them.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
