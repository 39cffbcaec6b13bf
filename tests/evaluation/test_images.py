"""Image-text models: what is sampled and replayed follows from the images, as the model's own `generate` has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from relax_rl.errors import ConfigError
from relax_rl.evaluation import evaluate
from relax_rl.evaluation.prompts import encode_prompt, render_prompt
from relax_rl.evaluation.replay import replay
from relax_rl.evaluation.samplers.server import ServerSampler
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.evaluation.samplers.vllm import VllmSampler
from relax_rl.koopman import KoopmanDictionary
from relax_rl.tasks.base import Problem, image_digest
from support.images import KINDS, SquareTask, image_text_model, read_together, square

# Words of different lengths, so that a batch is padded; one problem has two images, and one none.
PROBLEMS = [
    Problem("one", "where:", "0", images=(square(0),)),
    Problem("two", "which of them:", "1", images=(square(1), square(2))),
    Problem("three", "?", "1", images=(square(3),)),
    Problem("words", "nothing to see:", "0"),
]


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return image_text_model(request.param)


def test_greedy_completions_are_those_of_generate(policy) -> None:
    model, processor = policy
    prompts = [encode_prompt(processor, problem) for problem in PROBLEMS]
    drawn = sample_completions(model, processor, prompts, 1, max_completion_length=12, temperature=0.0)
    greedy = GenerationConfig(
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
        suppress_tokens=[model.config.image_token_id],
    )
    for problem, prompt, (completion,) in zip(PROBLEMS, prompts, drawn, strict=True):
        inputs = read_together(processor, [problem])
        assert inputs["input_ids"][0].tolist() == list(prompt)
        expected = model.generate(**inputs, generation_config=greedy)[0, len(prompt) :]
        assert list(completion.token_ids) == expected.tolist()


def test_the_image_decides_and_not_the_batch(policy) -> None:
    model, processor = policy
    problems = SquareTask().problems("test")
    prompts = [encode_prompt(processor, problem) for problem in problems]
    keys = [problem.id for problem in problems]
    settings: dict[str, Any] = {"max_completion_length": 16, "seed": 3}
    together = sample_completions(model, processor, prompts, 4, batch_size=16, keys=keys, **settings)
    apart = sample_completions(model, processor, prompts, 4, batch_size=1, keys=keys, **settings)
    assert [[draw.token_ids for draw in row] for row in together] == [[d.token_ids for d in row] for row in apart]
    greedy = sample_completions(model, processor, prompts, 1, max_completion_length=16, temperature=0.0)
    assert len({row[0].token_ids for row in greedy}) > 1


def test_no_image_token_is_drawn_without_an_image(policy) -> None:
    model, processor = policy
    head = torch.nn.Linear(32, len(processor.tokenizer))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()[model.config.image_token_id] = 100.0
    own, model.lm_head = model.lm_head, head
    try:
        prompts = [encode_prompt(processor, PROBLEMS[0])]
        (drawn,) = sample_completions(model, processor, prompts, 8, max_completion_length=8)
    finally:
        model.lm_head = own
    assert model.config.image_token_id not in {token for completion in drawn for token in completion.token_ids}


def test_replayed_states_and_entropies_are_those_of_a_forward_alone(policy) -> None:
    model, processor = policy
    prompts = [encode_prompt(processor, problem) for problem in PROBLEMS]
    completions = [[70, 71, 72], [80], [90, 91, 92, 93, 94], [65, 66]]
    for batch in replay(model, prompts, completions, temperature=0.7):
        for row, states, entropy, mask in zip(batch.rows, batch.hidden_states, batch.entropy, batch.mask, strict=True):
            inputs = read_together(processor, [PROBLEMS[row]])
            after = torch.tensor([completions[row]])
            width = after.shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], after], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, width))
            with torch.no_grad():
                output = model(**inputs, output_hidden_states=True)
            torch.testing.assert_close(states[mask], output.hidden_states[-1][0, -width:], atol=1e-5, rtol=1e-5)
            logits = output.logits[0, -width - 1 : -1]
            logits[:, model.config.image_token_id] = -1e9
            expected = torch.distributions.Categorical(logits=logits / 0.7).entropy()
            torch.testing.assert_close(entropy[mask], expected, atol=1e-4, rtol=1e-4)


def test_an_evaluation_is_named_by_its_images(policy) -> None:
    model, processor = policy
    dictionary = KoopmanDictionary(torch.randn(32, 4, generator=torch.Generator().manual_seed(2)))
    settings: dict[str, Any] = {"num_samples": 8, "max_completion_length": 24, "dictionary": dictionary}
    result = evaluate(model, processor, SquareTask(), **settings)
    assert 0.0 < result.metrics["mean@1"].value < 1.0
    assert {"entropy", "dsd", "pass@8"} <= result.metrics.keys()
    assert all(sample.prompt.endswith("where:") for sample in result.samples)

    class Turned(SquareTask):
        def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
            found = super().problems(split, count, seed)
            return [replace(problem, images=(problem.images[0].rotate(90),)) for problem in found]

    turned = evaluate(model, processor, Turned(), num_samples=1, max_completion_length=2)
    again = evaluate(model, processor, SquareTask(), num_samples=1, max_completion_length=2)
    assert turned.prompt_digest != again.prompt_digest == result.prompt_digest


def test_images_are_told_by_what_they_show(tmp_path) -> None:
    from PIL import Image

    square(1).save(tmp_path / "square.png")
    with Image.open(tmp_path / "square.png") as read:
        assert image_digest([read]) == image_digest([square(1)])
    assert len({image_digest([square(place)]) for place in range(4)} | {image_digest([])}) == 5
    assert image_digest([square(0), square(1)]) != image_digest([square(1), square(0)])


def test_who_cannot_be_given_an_image_says_so(tokenizer, policy) -> None:
    problem, (_, processor) = PROBLEMS[0], policy
    for refused in (encode_prompt, render_prompt):
        with pytest.raises(ConfigError, match="'one' shows an image, and the model reads text only"):
            refused(tokenizer, problem)
    template, processor.chat_template = processor.chat_template, None
    try:
        with pytest.raises(ConfigError, match="has no chat template"):
            encode_prompt(processor, problem)
        assert encode_prompt(processor, PROBLEMS[3]) == processor.tokenizer("nothing to see:")["input_ids"]
    finally:
        processor.chat_template = template
    with pytest.raises(ConfigError, match="--backend server does not send"):
        ServerSampler("http://localhost:1/v1", "name").render(problem)
    vllm = object.__new__(VllmSampler)
    with pytest.raises(ConfigError, match="--backend vllm does not send"):
        vllm.render(problem)
