"""Micro-batches sorted by length and trimmed: the update is the same, with less padding."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.training.rows import in_row_order, places_in_row_order
from relax_rl.training.trl.head import in_trimmed_chunks, scored_positions
from relax_rl.training.trl.micro_batches import by_length, padding_of, trimmed
from support.scripted import GROUP, ScriptedTrainer, make_trainer, tiny_llama

SETTINGS = {"per_device_train_batch_size": 2 * GROUP, "gradient_accumulation_steps": 3, "max_completion_length": 40}
RELAX = {"dictionary": {"num_observables": 4, "steps": 3}}


class Uneven(ScriptedTrainer):
    """Groups whose completions differ much in length, some of which never end."""

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> tuple[list[list[int]], None]:
        completions: list[list[int]] = []
        for index, ids in enumerate(prompt_ids):
            longest = random.Random(f"{list(ids)}").randint(10, 39)
            rng = random.Random(f"{list(ids)}/{index % self.num_generations}")
            ids = [rng.randrange(4, 200) for _ in range(rng.randint(8, longest))]
            completions.append(ids if longest == len(ids) else [*ids, self._tokenizer.eos_token_id])
        return completions, None


class Padded(Uneven):
    """The same as TRL pads it, in the order in which it was sampled."""

    @property
    def _keeps_layout(self) -> bool:
        return True


def updates(trainer: Any, count: int) -> list[tuple[float, dict[str, torch.Tensor], list[dict[str, Any]]]]:
    """Loss, gradients and micro-batches of the updates that a rollout batch serves; nothing is stepped."""
    trainer.model.train()
    window = trainer.args.gradient_accumulation_steps
    trainer.current_gradient_accumulation_steps = window
    given, found = next(iter(trainer.get_train_dataloader())), []
    for _ in range(count):
        trainer.model.zero_grad()
        total, batches = 0.0, []
        for _ in range(window):
            batches.append(trainer._prepare_inputs(given))
            loss = trainer.compute_loss(trainer.model, batches[-1])
            loss.backward()
            total += loss.item()
            trainer._step += 1
        gradients = {name: value.grad.clone() for name, value in trainer.model.named_parameters()}
        found.append((total, gradients, batches))
    return found


def assert_same(ours: Any, theirs: Any) -> None:
    for (loss, gradients, _), (expected, others, _) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(expected, rel=1e-6, abs=1e-7)
        whole = torch.cat([value.flatten() for value in others.values()]).norm()
        for name, value in gradients.items():
            assert (value - others[name]).norm() <= 1e-6 * whole, name


METHODS = {
    "grpo": {},
    "relax": RELAX | {"beta": 0.1, "xi": "quantile:0.5"},
    "kl_cov": {"k_ratio": 0.2},
    "clip_cov": {},
    "forking_tokens": {},
    "dr_grpo": {},
    "gspo": {},
    "opefo": {},
    "flow_rl": {},
    "hicra": {},
    "rep_exp": {},
}
QUICK = ("grpo", "relax", "kl_cov")


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
@pytest.mark.parametrize("uses", [1, 2])
def test_an_update_is_that_of_the_padded_rows(method: str, uses: int, tmp_path: Path) -> None:
    settings = SETTINGS | {"steps_per_generation": 3 * uses}
    ours, theirs = (
        updates(
            make_trainer(build_objective(method, **METHODS[method]), tmp_path, trainer_class=kind, **settings), uses
        )
        for kind in (Uneven, Padded)
    )
    assert_same(ours, theirs)
    for (_, _, batches), (_, _, padded) in zip(ours, theirs, strict=True):
        assert padding_of(batches)[1] < padding_of(padded)[1]
        assert sorted(row for batch in batches for row in batch["row"].tolist()) == sorted(
            row for batch in padded for row in batch["row"].tolist()
        )
        longest = [int(batch["completion_mask"].sum(-1).max()) for batch in batches]
        assert longest == sorted(longest)
        assert [batch["completion_ids"].shape[1] for batch in batches] == longest


def test_truncated_completions_that_are_left_out_take_no_room(tmp_path: Path) -> None:
    settings = SETTINGS | {"mask_truncated_completions": True}
    ours, theirs = (
        updates(make_trainer(build_objective("grpo"), tmp_path, trainer_class=kind, **settings), 1)
        for kind in (Uneven, Padded)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("relax_as_run", RELAX),
        ("relax", RELAX | {"advantage_shaping": "positive_by_length"}),
        ("relax", RELAX | {"mean_scope": "micro_batch"}),
        ("relax", RELAX | {"padding": "zeros"}),
        ("kl_cov", {"scope": "micro_batch"}),
    ],
)
def test_a_method_that_reads_padding_or_micro_batches_has_them_as_trl_makes_them(
    method: str, options: dict[str, Any], tmp_path: Path
) -> None:
    assert build_objective(method, **options).reads_layout
    trainer = make_trainer(build_objective(method, **options), tmp_path, trainer_class=Uneven, **SETTINGS)
    ((_, _, batches),) = updates(trainer, 1)
    assert len({batch["completion_ids"].shape[1] for batch in batches}) == 1
    assert [row for batch in batches for row in batch["row"].tolist()] == list(range(6 * GROUP))


@pytest.mark.slow
def test_the_recorded_advantage_is_that_of_the_completion(tmp_path: Path) -> None:
    words = [
        "train", "countdown", "--objective=grpo", "--monitor=false", "--evaluation.enabled=false",
        "--trainer.num_generations=4", "--trainer.per_device_train_batch_size=4",
        "--trainer.gradient_accumulation_steps=6", "--trainer.max_completion_length=32", "--trainer.max_steps=1",
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(words) == 0
    run = RunDirectory.open(tmp_path / "run")
    rows = [json.loads(line) for path in run.completions.iterdir() for line in path.open()]
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        assert len({row["problem_id"] for row in group}) == 1
        rewards = torch.tensor([row["reward"] for row in group])
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        torch.testing.assert_close(torch.tensor([row["advantage"] for row in group]), expected, atol=1e-5, rtol=0)
    assert 0 < run.read_metrics()[0]["batch/padding"] < 1


def test_widths_are_the_multiple_that_was_asked_for() -> None:
    completion, prompt = (torch.arange(16) < 5).long().unsqueeze(0), (torch.arange(16) >= 13).long().unsqueeze(0)
    batch = {
        "prompt_ids": torch.arange(16).unsqueeze(0),
        "prompt_mask": prompt,
        "completion_ids": torch.arange(16).unsqueeze(0),
        "completion_mask": completion,
        "ref_per_token_logps": torch.arange(16.0).unsqueeze(0),
        "rewards": torch.ones(1),
    }
    cut = trimmed(batch, None)
    assert cut["prompt_ids"].tolist() == [[13, 14, 15]]
    assert cut["completion_ids"].tolist() == [[0, 1, 2, 3, 4]]
    assert cut["ref_per_token_logps"].shape == (1, 5)
    cut = trimmed(batch, 8)
    assert cut["prompt_ids"].tolist() == [list(range(8, 16))]
    assert cut["completion_mask"].shape == (1, 8)
    assert trimmed(batch | {"completion_mask": torch.zeros(1, 16)}, None)["completion_ids"].shape == (1, 1)


def test_groups_are_sorted_within_their_update_alone() -> None:
    lengths = torch.tensor([5, 5, 2, 3, 9, 1, 4, 4])
    rows = {
        "row": torch.arange(8),
        "completion_mask": torch.arange(10).expand(8, 10) < lengths.unsqueeze(-1),
        "prompt_mask": torch.ones(8, 3),
        "num_items_in_batch": torch.tensor(33.0),
    }
    assert by_length(rows, group=2, update=4)["row"].tolist() == [2, 3, 0, 1, 6, 7, 4, 5]


def test_rows_come_back_into_their_order() -> None:
    batches = [{"row": torch.tensor([2, 3])}, {"row": torch.tensor([0, 1])}]
    parts = [torch.tensor([[2.0], [3.0]]), torch.tensor([[0.0, 0.5], [1.0, 1.5]])]
    whole = in_row_order(batches, parts)
    assert whole.tolist() == [[0.0, 0.5], [1.0, 1.5], [2.0, 0.0], [3.0, 0.0]]
    for place, part in zip(places_in_row_order(batches), parts, strict=True):
        assert whole[place, : part.shape[1]].tolist() == part.tolist()


# The head ---------------------------------------------------------------------------------------------------------


def headed() -> Any:
    from trl.trainer.utils import add_fused_lm_head

    model = tiny_llama().train()
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    return model


def scored(model: Any, ids: torch.Tensor, mask: torch.Tensor, num_kept: int) -> Any:
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-num_kept] = -100
    return model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)


def padded_rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(4, 200, (5, 30), generator=generator), torch.ones(5, 30, dtype=torch.long)
    for row, (before, after) in enumerate([(0, 0), (3, 9), (7, 0), (1, 18), (7, 20)]):
        mask[row, :before] = 0
        mask[row, 30 - after :] = 0
    return ids, mask


def test_the_head_gives_the_same_on_the_scored_positions_alone() -> None:
    ids, mask = padded_rows()
    found = []
    for is_ours in (False, True):
        model = headed()
        if is_ours:
            with scored_positions(model):
                output = scored(model, ids, mask, 20)
        else:
            output = scored(model, ids, mask, 20)
        (output.log_probs.sum() + output.entropy.square().sum()).backward()
        found.append([output.log_probs, output.entropy, *(p.grad for p in model.parameters())])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    # Outside, nothing listens any longer.
    assert not model._forward_hooks
    assert not model.base_model._forward_hooks


def test_the_head_sees_what_has_a_label_and_on_other_devices_everything() -> None:
    ids, mask = padded_rows()
    seen: list[tuple[int, ...]] = []
    model = headed()
    with scored_positions(model):
        handle = model.base_model.register_forward_hook(
            lambda module, args, output: seen.append(tuple(output.last_hidden_state.shape))
        )
        scored(model, ids, mask, 20)
        handle.remove()
    assert seen == [(1, int(mask[:, -20:].sum()), 32)]
    elsewhere = headed().to("meta")
    with scored_positions(elsewhere):
        assert not elsewhere.base_model._forward_hooks


def test_rows_without_a_scored_position_have_a_gradient_of_zero() -> None:
    ids, mask = padded_rows()
    mask[:, 10:] = 0
    model = headed()
    with scored_positions(model):
        output = scored(model, ids, mask, 20)
    output.log_probs.sum().backward()
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)
    assert not output.log_probs.any()


@torch.no_grad()
def test_chunks_without_common_padding_give_the_same() -> None:
    ids, mask = padded_rows()
    model = headed()
    widths: list[tuple[int, ...]] = []

    def score(part: torch.Tensor, kept: torch.Tensor, num_kept: int) -> Any:
        widths.append(tuple(part.shape))
        output = scored(model, part, kept, num_kept)
        return output.log_probs[:, -num_kept:], output.entropy[:, -num_kept:], None

    whole = scored(model, ids, mask, 20)
    log_probs, entropies, _ = in_trimmed_chunks(score, ids, mask, 20, batch_size=2)
    torch.testing.assert_close(log_probs, whole.log_probs[:, -20:], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(entropies, whole.entropy[:, -20:], atol=2e-6, rtol=1e-5)
    assert widths == [(2, 11), (2, 27), (1, 30)]
