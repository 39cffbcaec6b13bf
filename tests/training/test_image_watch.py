"""What is logged of images while a policy trains, against the model shown the other images by itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from relax_rl.config import SightConfig
from relax_rl.errors import ConfigError
from relax_rl.objectives import build_objective
from relax_rl.training.trl.image_watch import ImageWatch
from support.images import SIDE, SquareTask, image_text_model, read_together
from support.scripted import GROUP, make_trainer

WHOLE = {"per_device_train_batch_size": 4 * GROUP, "gradient_accumulation_steps": 1}


def trainer_for(folder: Any, task: Any = None) -> Any:
    model, processor = image_text_model()
    return make_trainer(
        build_objective("grpo"), folder, model=model, processor=processor, task=task or SquareTask(), **WHOLE
    )


def first_rollout(trainer: Any) -> dict[str, Any]:
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    (batch,) = trainer._buffered_inputs
    return batch


def watched(trainer: Any, **settings: Any) -> Any:
    trainer.observe(ImageWatch(SightConfig(**settings), trainer, shows=True))
    return trainer


def distributions(problem: Any, ids: torch.Tensor, temperature: float) -> torch.Tensor:
    model, processor = image_text_model()
    own = read_together(processor, [problem])
    own["input_ids"] = torch.cat([own["input_ids"], ids[None]], dim=1)
    own["attention_mask"] = torch.ones_like(own["input_ids"])
    with torch.no_grad():
        logits = model(**own).logits[0, -len(ids) - 1 : -1] / temperature
    logits[:, model.config.image_token_id] = -torch.inf
    return logits.log_softmax(-1)


@pytest.mark.slow
def test_figures_are_those_of_the_model_shown_the_other_images(tmp_path: Any) -> None:
    trainer = watched(trainer_for(tmp_path), prompts=4, completions=GROUP, conditions="other,grey", max_positions=9)
    batch = first_rollout(trainer)
    problems = SquareTask().problems("train")
    _, processor = image_text_model()
    pixels = [read_together(processor, [one])["pixel_values"] for one in problems]
    # In the order of the rollout, in which the next prompt lends its image.
    order = [
        next(place for place, own in enumerate(pixels) if torch.equal(own, batch["looks"][row].images["pixel_values"]))
        for row in range(0, 4 * GROUP, GROUP)
    ]
    sums = {"other": [0.0, 0.0], "grey": [0.0, 0.0]}
    count = 0
    for row in range(4 * GROUP):
        ids = batch["completion_ids"][row][batch["completion_mask"][row].bool()][:9]
        own, following = order[row // GROUP], order[(row // GROUP + 1) % 4]
        count += len(ids)
        true = distributions(problems[own], ids, trainer.temperature)
        others = {"other": problems[following].images, "grey": (Image.new("RGB", (SIDE, SIDE), (128, 128, 128)),)}
        for name, images in others.items():
            found = distributions(replace(problems[own], images=images), ids, trainer.temperature)
            terms = torch.where(true.isneginf(), 0.0, true.exp() * (true - found))
            sums[name][0] += terms.sum().item()
            sums[name][1] += (true.argmax(-1) == found.argmax(-1)).sum().item()
    logged = {name: value for name, (value,) in trainer._metrics["train"].items() if name.startswith("sight/")}
    expected = {}
    for name, (kl, same) in sums.items():
        expected |= {f"sight/kl/{name}": kl / count, f"sight/same_choice/{name}": same / count}
    assert logged == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert all(logged[f"sight/kl/{name}"] > 1e-5 for name in sums)


@pytest.mark.slow
def test_a_run_trains_alike_with_and_without(tmp_path: Any) -> None:
    losses, weights = [], []
    for trainer in (trainer_for(tmp_path), watched(trainer_for(tmp_path), prompts=2)):
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
        weights.append(torch.cat([parameter.detach().flatten() for parameter in trainer.policy.parameters()]))
        sight = [row for row in trainer.state.log_history if "sight/kl/other" in row]
    assert len(sight) == 2
    assert losses[0] == losses[1]
    assert torch.equal(*weights)


@pytest.mark.slow
def test_without_another_image_nothing_is_said_of_one(tmp_path: Any) -> None:
    first, *others = SquareTask().problems("train")
    problems = [replace(first, images=()), *(replace(one, images=others[0].images) for one in others)]
    task = SimpleNamespace(name="same", verifier=SquareTask().verifier, problems=lambda *args, **kwargs: problems)
    trainer = watched(trainer_for(tmp_path, task), prompts=4, conditions="other,masked:1")
    first_rollout(trainer)
    logged = sorted(name for name in trainer._metrics["train"] if name.startswith("sight/"))
    assert logged == ["sight/kl/masked:1", "sight/same_choice/masked:1"]


@pytest.mark.parametrize(
    ("conditions", "shows", "sentence"),
    [
        ("none", True, "sight.conditions names 'none', under which a prompt has other tokens"),
        ("other,words", True, "sight.conditions names 'words'"),
        ("true", True, "Name at least one condition"),
        ("blur", True, "There is no condition 'blur'"),
        ("other", False, "no training problem shows one"),
    ],
)
def test_what_cannot_be_measured_is_refused(conditions: str, shows: bool, sentence: str) -> None:
    trainer: Any = SimpleNamespace(accelerator=Accelerator(cpu=True))
    with pytest.raises(ConfigError, match=sentence):
        ImageWatch(SightConfig(prompts=1, conditions=conditions), trainer, shows=shows)
