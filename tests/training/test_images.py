"""Training an image-text model through TRL: rows keep their images, and the states are those of its language model."""

from __future__ import annotations

import functools
import io
import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image

from relax_rl.errors import ConfigError
from relax_rl.latent.images.look import rows_of
from relax_rl.objectives import build_objective
from relax_rl.reports.page import write_report
from relax_rl.runs import RunDirectory
from relax_rl.training.inputs.prompt_keys import prompt_key
from relax_rl.training.models import load_model
from relax_rl.training.trl.branching import Branching
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.looking import _packed, _unpacked
from relax_rl.training.trl.rank_state import load_rank_state, save_rank_state
from relax_rl.workflows.train import train
from support.images import KINDS, SIDE, SquareTask, image_text_model, llava_folder, read_together
from support.scripted import GROUP, ScriptedTrainer, make_trainer

pytestmark = pytest.mark.slow

DICTIONARY = {"num_observables": 8, "steps": 3}
WHOLE = {"per_device_train_batch_size": 4 * GROUP, "gradient_accumulation_steps": 1}
"""An update in one micro-batch."""
OBJECTIVES = {
    "grpo": {},
    "kl_cov": {"k_ratio": 0.1},
    "relax": {"xi": "quantile:0.5", "dictionary": DICTIONARY},
    "flow_rl": {},
    "opefo": {},
}


def trainer_for(kind, objective, folder, **settings) -> Any:
    model, processor = image_text_model(kind)
    return make_trainer(objective, folder, model=model, processor=processor, task=SquareTask(), **settings)


def first_rollout(trainer) -> list[dict[str, Any]]:
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return trainer._buffered_inputs


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_keeps_its_image_and_no_update_depends_on_micro_batches(kind, tmp_path):
    losses, gradients = [], []
    for per_device, accumulation in ((4 * GROUP, 1), (GROUP, 4)):
        trainer = trainer_for(
            kind,
            build_objective("dcpo"),
            tmp_path,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=accumulation,
        )
        batches = first_rollout(trainer)
        shown = {}
        for batch in batches:
            for key, look in zip(batch["prompt_key"].tolist(), batch["looks"], strict=True):
                shown.setdefault(key, []).append(look)
        _, processor = image_text_model(kind)
        assert len(shown) == 4
        for problem in SquareTask().problems("train"):
            made = read_together(processor, [problem])["pixel_values"]
            rows = shown[prompt_key(problem.messages if processor.chat_template else problem.prompt, problem.images)]
            assert len(rows) == GROUP
            assert all(torch.equal(row.images["pixel_values"], made) for row in rows)
            # One object, so that the vision part looks once.
            assert len({id(row) for row in rows}) == 1
        trainer.model.zero_grad()
        loss = sum(trainer.compute_loss(trainer.model, batch) for batch in batches)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)
    # The loss reaches the eyes, too.
    assert any("vis" in name and gradient.abs().max() > 1e-6 for name, gradient in gradients[0].items())


def test_workers_of_the_loader_decode_the_same_images(tmp_path):
    def rows(num_workers: int) -> list[tuple[str, bytes]]:
        trainer = trainer_for("llava", build_objective("grpo"), tmp_path, **WHOLE, dataloader_num_workers=num_workers)
        batch = next(iter(trainer.get_train_dataloader()))
        return [(row["problem_id"], row["images"][0].tobytes()) for row in batch]

    assert rows(1) == rows(0)
    assert len(set(rows(0))) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_states_of_the_loss_are_those_of_the_language_model(kind, tmp_path):
    objective = build_objective("relax", beta=0.0, xi=1.0, dictionary=DICTIONARY)
    trainer = trainer_for(kind, objective, tmp_path)
    inputs = first_rollout(trainer)[0]
    forward, _ = trainer._forward(trainer.model, inputs)
    batch = trainer.rollout_batch(inputs, forward)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    looks = inputs["looks"]
    beside = {name: torch.cat([look.images[name] for look in looks]) for name in looks[0].images}
    # The prompts are of one length.
    after = torch.zeros_like(inputs["completion_ids"])
    for name in looks[0].per_token:
        beside[name] = torch.cat([torch.stack([look.per_token[name] for look in looks]), after], dim=1)
    with torch.no_grad():
        output = trainer.model(ids, attention_mask=mask, **beside, output_hidden_states=True)
        other = trainer.model(
            ids, attention_mask=mask, **beside | {"pixel_values": -beside["pixel_values"]}, output_hidden_states=True
        )
    width = inputs["completion_ids"].shape[1]
    states, is_token = batch.hidden_states.flatten(0, 1), inputs["completion_mask"].bool()
    expected = output.hidden_states[-1][:, -width:]
    torch.testing.assert_close(states[is_token].detach(), expected[is_token], atol=1e-5, rtol=1e-5)
    assert (states - other.hidden_states[-1][:, -width:])[is_token].abs().max() > 1e-3
    log_probs = output.logits[:, -width - 1 : -1].log_softmax(-1)
    picked = log_probs.gather(-1, inputs["completion_ids"].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(batch.log_probs.flatten(0, 1)[is_token].detach(), picked[is_token], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", OBJECTIVES)
def test_two_updates_of_a_rollout_move_words_and_eyes(method, tmp_path):
    trainer = trainer_for(
        "llava",
        build_objective(method, **OBJECTIVES[method]),
        tmp_path,
        gradient_accumulation_steps=1,
        steps_per_generation=2,
        temperature=1.0,
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(before[name], p)}
    assert {"model.vision_tower.embeddings.patch_embedding.weight", "lm_head.weight"} <= moved
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_each_prompt_is_read_once_a_rollout_and_seen_once_a_forward(kind, tmp_path):
    """For G = 4: TRL has 32 images read for an update of 4 prompts, and each looked at 4 times a forward."""
    objective = build_objective("relax", xi="quantile:0.5", beta=0.0, dictionary=DICTIONARY)
    trainer = trainer_for(kind, objective, tmp_path, **WHOLE)
    tower = {"llava": lambda model: model.model.vision_tower, "qwen2_vl": lambda model: model.model.visual}[kind]
    seen, read = [], []

    def note(module, args, kwargs):
        grid = kwargs.get("grid_thw")
        seen.append(len(args[0] if args else kwargs["pixel_values"]) if grid is None else len(grid))

    tower(trainer.model).register_forward_pre_hook(note, with_kwargs=True)
    image_processor = trainer.processing_class.image_processor
    own = image_processor.preprocess
    image_processor.preprocess = lambda images, *args, **kwargs: (read.append(1), own(images, *args, **kwargs))[1]
    try:
        batch = first_rollout(trainer)[0]
    finally:
        image_processor.preprocess = own
    assert len(read) == 4
    # To fit the dictionary: completions are scripted here.
    assert seen == [1] * 4
    seen.clear()
    trainer.compute_loss(trainer.model, batch).backward()
    assert seen == [1] * 4
    held = {id(look): look.num_bytes for look in batch["looks"]}
    alone = sum(look.num_bytes for look in batch["looks"])
    assert sum(held.values()) * GROUP == alone


def test_prompts_with_and_without_images_train_together(tmp_path):
    model, processor = image_text_model()
    task = SquareTask()
    first, *others = task.problems("train")
    problems = [replace(first, images=()), *others]
    mixed = SimpleNamespace(name="mixed", verifier=task.verifier, problems=lambda *args, **kwargs: problems)
    settings = {"per_device_train_batch_size": GROUP, "gradient_accumulation_steps": 4, "max_steps": 1}
    trainer = make_trainer(
        build_objective("grpo", beta=0.1), tmp_path, model=model, processor=processor, task=mixed, **settings
    )
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert row["grad_norm"] > 0
    assert row["kl"] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_masked_log_probs_are_those_of_the_model_shown_black_images(kind, tmp_path):
    """With every square black, what the policy says of the completions is what the model says by itself."""
    trainer = trainer_for(kind, build_objective("papo", beta=0.0, mask_share=1.0), tmp_path, **WHOLE)
    (batch,) = first_rollout(trainer)
    model, processor = image_text_model(kind)
    dark = [replace(one, images=(Image.new("RGB", (SIDE, SIDE)),)) for one in SquareTask().problems("train")[:1]]
    for row in range(4 * GROUP):
        kept = batch["completion_mask"][row].bool()
        ids = batch["completion_ids"][row][kept][None]
        own = read_together(processor, dark)
        own["input_ids"] = torch.cat([own["input_ids"], ids], dim=1)
        own["attention_mask"] = torch.ones_like(own["input_ids"])
        for name in own:
            if name.endswith("token_type_ids"):
                own[name] = torch.cat([own[name], torch.zeros_like(ids)], dim=1)
        with torch.no_grad():
            logits = model(**own).logits[0, -ids.shape[1] - 1 : -1] / trainer.args.temperature
        expected = logits.log_softmax(-1).gather(-1, ids[0].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(batch["masked_log_probs"][row][kept], expected, atol=1e-4, rtol=1e-4)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert trainer._metrics["train"]["sight/kl_masked"][0] > 0


def test_a_prompt_without_an_image_depends_on_none(tmp_path):
    model, processor = image_text_model()
    first, *others = SquareTask().problems("train")
    problems = [replace(first, images=()), *others]
    mixed = SimpleNamespace(name="mixed", verifier=SquareTask().verifier, problems=lambda *args, **kwargs: problems)
    trainer = make_trainer(
        build_objective("vppo", mask_patch=4), tmp_path, model=model, processor=processor, task=mixed, **WHOLE
    )
    (batch,) = first_rollout(trainer)
    forward = trainer.forward_only(batch)
    width = batch["completion_ids"].shape[1]
    moved = (batch["masked_log_probs"] - forward.log_probs[:, -width:]).abs() * batch["completion_mask"]
    shows = torch.tensor([bool(look.images) for look in batch["looks"]])
    assert shows.sum() == 3 * GROUP
    assert moved[~shows].max() < 1e-5
    assert (moved[shows].amax(1) > 1e-4).all()


def test_thumbnails_stand_beside_completions_and_in_the_report(tmp_path):
    result = train(
        overrides=[
            f"--output={tmp_path / 'run'}",
            f"--model={llava_folder()}",
            "--task=support.images:SquareTask",
            "--objective=image_credit",
            "--objective.mask_patch=4",
            "--monitor=false",
            "--trainer.max_steps=1",
            "--trainer.per_device_train_batch_size=8",
            "--trainer.gradient_accumulation_steps=1",
            "--trainer.num_generations=4",
            "--trainer.max_completion_length=8",
            "--evaluation.num_samples=1",
            "--evaluation.num_problems=4",
        ],
    )
    run = RunDirectory.open(result.output)
    names = {name for row in run.read_completions(1) for name in row["images"]}
    assert len(names) == 2
    for name in names:
        data = run.thumbnails.read(name)
        assert data is not None
        assert Image.open(io.BytesIO(data)).size == (SIDE, SIDE)
    page = write_report([result.output], tmp_path / "page.html").read_text()
    shown = re.search(r'"thumbnails": ?\{(.*?)\}', page)
    assert shown is not None
    assert all(json.dumps(name) in shown[1] for name in names)
    assert 'class="thumbnail"' in page


def test_a_resumed_rollout_holds_each_prompt_s_images_once(tmp_path):
    trainer = trainer_for("qwen2_vl", build_objective("grpo"), tmp_path, **WHOLE)
    (batch,) = first_rollout(trainer)
    save_rank_state({"rollout": [_packed(batch)]}, tmp_path, 0)
    state = load_rank_state(tmp_path, 0, "cpu")
    assert state is not None
    (again,) = map(_unpacked, state["rollout"])
    assert rows_of(again["looks"]) == rows_of(batch["looks"]) == [row // GROUP for row in range(4 * GROUP)]
    for look, other in zip(again["looks"], batch["looks"], strict=True):
        assert look.token_ids == other.token_ids
        for name in ("per_token", "images"):
            held, given = getattr(look, name), getattr(other, name)
            assert held.keys() == given.keys()
            assert all(torch.equal(held[key], given[key]) for key in given)


def test_a_run_trains_measures_and_can_be_measured_again(tmp_path):
    result = train(
        overrides=[
            f"--output={tmp_path / 'run'}",
            f"--model={llava_folder()}",
            "--task=support.images:SquareTask",
            "--trainer.max_steps=1",
            "--trainer.per_device_train_batch_size=8",
            "--trainer.gradient_accumulation_steps=1",
            "--trainer.num_generations=4",
            "--trainer.max_completion_length=24",
            "--trainer.save_steps=1",
            "--evaluation.num_samples=4",
            "--evaluation.num_problems=4",
            "--dictionary.num_observables=4",
            "--dictionary.steps=3",
        ],
    )
    run = RunDirectory.open(result.output)
    assert {row["prompt"][0]["content"] for row in run.read_completions(1)} == {"where:"}
    evaluations = run.read_evaluations()
    assert all("dsd" in evaluations[name]["metrics"] for name in ("before", "after"))
    model, processor = load_model(str(run.latest_checkpoint()))
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(processor).__name__ == "LlavaProcessor"


def test_prompts_of_other_images_are_other_prompts():
    problems = SquareTask().problems("train")
    _, processor = image_text_model()
    dataset = prompt_dataset(problems, processor)
    keys = [prompt_key(row["prompt"], row["images"]) for row in cast(Any, dataset)]
    assert keys == [prompt_key(problem.messages, problem.images) for problem in problems]
    assert len(set(keys)) == 4
    plain = [replace(problem, images=()) for problem in problems]
    assert "images" not in prompt_dataset(plain, processor).column_names


def test_what_does_not_go_with_images_is_refused_before_the_run(tmp_path):
    _, tokenizer = load_model("tiny")
    with pytest.raises(ConfigError, match="the model reads text only"):
        prompt_dataset(SquareTask().problems("train"), tokenizer)
    for option, sentence in (
        ({"branching": Branching(GROUP, 2, 4, 32)}, "trunks does not take prompts with images"),
        ({"max_batches": 2}, "max_batches above 1 does not take prompts with images"),
    ):
        kind = functools.partial(ScriptedTrainer, **option)
        with pytest.raises(ConfigError, match=sentence):
            trainer_for("llava", build_objective("grpo"), tmp_path, trainer_class=kind)
