"""What the hooks see is what transformers itself returns with ``output_hidden_states=True``."""

from __future__ import annotations

import copy
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latent.conftest import VOCABULARY
from relax_rl.errors import ConfigError, DataError, ModelError
from relax_rl.latent.capture import StateCapture
from relax_rl.latent.sites import decoder_layers, default_sites, language_model_of, resolve_sites
from relax_rl.latent.trajectories import capture_generation, capture_inputs, capture_sequences

SITES = ["embed", "layer_0_out", "layer_1_out", "layer_2_out", "final_norm_out"]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three rows of 9, 9 and 5 tokens."""
    ids = torch.randint(5, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[2, 5:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def reference(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' own hidden states, and the last layer's output, which it does not return, by one hook."""
    last: list[torch.Tensor] = []
    handle = decoder_layers(model)[-1].register_forward_hook(
        lambda module, args, output: last.append(output if isinstance(output, torch.Tensor) else output[0])
    )
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    handle.remove()
    named = dict(zip(["embed", "layer_0_out", "layer_1_out"], states[:3], strict=True))
    return named | {"layer_2_out": last[0], "final_norm_out": states[-1]}


def assert_equal_to_reference(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    expected, mask = reference(model, inputs), inputs["attention_mask"].bool()
    trajectories = capture_inputs(model, inputs, ["all"])
    assert [trajectory.row for trajectory in trajectories] == list(range(len(mask)))
    for row, trajectory in enumerate(trajectories):
        assert list(trajectory.states) == SITES
        assert trajectory.token_ids == tuple(inputs["input_ids"][row, mask[row]].tolist())
        for site, states in trajectory.states.items():
            torch.testing.assert_close(states, expected[site][row, mask[row]], msg=lambda m, s=site: f"{s}: {m}")
    assert not torch.equal(expected["layer_2_out"], expected["final_norm_out"])


def test_every_site_of_every_family(text_model: Any, batch: dict[str, torch.Tensor]) -> None:
    assert_equal_to_reference(text_model, batch)


def test_every_site_of_image_text_models(image_text_model: tuple[Any, dict[str, torch.Tensor]]) -> None:
    model, inputs = image_text_model
    assert_equal_to_reference(model, inputs)
    other = inputs | {"pixel_values": inputs["pixel_values"] + 1.0}
    states, moved = (capture_inputs(model, given, ["final_norm_out"])[0].states for given in (inputs, other))
    assert not torch.allclose(states["final_norm_out"], moved["final_norm_out"])  # the image is in the states


def test_the_tiny_policy(batch: dict[str, torch.Tensor]) -> None:
    from relax_rl.training.models import load_model

    model, _ = load_model("tiny")
    with torch.no_grad():
        expected = model(**batch, output_hidden_states=True).hidden_states
    states = capture_inputs(model, batch, ["layer_1_out", "final_norm_out"])[0].states
    torch.testing.assert_close(states["layer_1_out"], expected[2][0])
    torch.testing.assert_close(states["final_norm_out"], expected[4][0])


def test_sequences_of_any_length_come_back_each_once_without_their_prompt(text_model: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    sequences = [torch.randint(5, VOCABULARY, (n,), generator=generator).tolist() for n in (3, 20, 1, 8, 7, 20)]
    starts = [1, 5, 0, 7, 0, 0]
    found = list(capture_sequences(text_model, sequences, ["layer_1_out"], starts=starts, tokens_per_batch=24))
    assert sorted(trajectory.row for trajectory in found) == list(range(6))
    for trajectory in found:
        alone = {"input_ids": torch.tensor([sequences[trajectory.row]])}
        (expected,) = capture_inputs(text_model, alone, ["layer_1_out"])
        start = starts[trajectory.row]
        torch.testing.assert_close(trajectory.states["layer_1_out"], expected.states["layer_1_out"][start:])
        assert trajectory.token_ids == tuple(sequences[trajectory.row][start:])


def test_generation_gives_the_states_that_reading_again_gives(text_model: Any) -> None:
    prompts = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [0, 0, 9, 10]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
    }
    sites = ["embed", "layer_0_out", "final_norm_out"]
    drawn = capture_generation(text_model, prompts, sites, max_new_tokens=12, do_sample=False, num_beams=1)
    assert [len(trajectory) for trajectory in drawn] != [0, 0]
    for prompt, trajectory in zip(([5, 6, 7, 8], [9, 10]), drawn, strict=True):
        sequence = [*prompt, *trajectory.token_ids]
        (again,) = capture_sequences(text_model, [sequence], sites, starts=[len(prompt)])
        for site in sites:
            torch.testing.assert_close(trajectory.states[site], again.states[site], rtol=1e-4, atol=1e-4)


def test_generation_from_images(image_text_model: tuple[Any, dict[str, torch.Tensor]]) -> None:
    model, inputs = image_text_model
    drawn = capture_generation(model, inputs, ["layer_1_out"], max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert [len(trajectory) for trajectory in drawn] == [5, 5]
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    completions = torch.tensor([trajectory.token_ids for trajectory in drawn])
    longer = inputs | {
        "input_ids": torch.cat([ids, completions], dim=1),
        "attention_mask": torch.cat([mask, torch.ones_like(completions)], dim=1),
    }
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = (longer["input_ids"] == 2).long()
    for again, trajectory in zip(capture_inputs(model, longer, ["layer_1_out"]), drawn, strict=True):
        torch.testing.assert_close(
            trajectory.states["layer_1_out"], again.states["layer_1_out"][-5:], rtol=1e-4, atol=1e-4
        )


def test_a_completion_ends_with_its_first_stop_token(llama: Any) -> None:
    ids = torch.tensor([[5, 6], [7, 8], [9, 10], [11, 12]])
    prompts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    settings = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [39]}
    free = capture_generation(llama, prompts, ["embed"], eos_token_id=39, **settings)
    stop = free[0].token_ids[3]
    ended = capture_generation(llama, prompts, ["embed"], eos_token_id=stop, **settings)
    for before, after in zip(free, ended, strict=True):
        ids = before.token_ids
        expected = ids[: ids.index(stop) + 1] if stop in ids else ids
        # The stop token's own state is there only where another row went on, so that the model read it.
        assert after.token_ids == expected[: len(after)]
        assert len(after) >= len(expected) - 1
    assert len(ended[0]) <= 4


def test_a_model_in_bfloat16_gives_its_own_dtype(batch: dict[str, torch.Tensor], llama: Any) -> None:
    model = type(llama)(llama.config).eval().to(torch.bfloat16)
    expected = reference(model, batch)
    states = capture_inputs(model, batch, ["layer_0_out", "final_norm_out"])[1].states
    assert {values.dtype for values in states.values()} == {torch.bfloat16}
    torch.testing.assert_close(states["layer_0_out"], expected["layer_0_out"][1])


def test_a_model_spread_by_a_device_map(batch: dict[str, torch.Tensor], llama: Any, tmp_path: Any) -> None:
    """With one layer and the head on the disk: accelerate replaces forward methods, and the hooks still fire."""
    llama.save_pretrained(tmp_path / "model")
    spread = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"}
    spread |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
    model = type(llama).from_pretrained(tmp_path / "model", device_map=spread, offload_folder=str(tmp_path / "disk"))
    for ours, expected in zip(
        capture_inputs(model, batch, ["all"]), capture_inputs(llama, batch, ["all"]), strict=True
    ):
        for site in SITES:
            torch.testing.assert_close(ours.states[site], expected.states[site])


def test_no_other_site_is_kept(llama: Any, batch: dict[str, torch.Tensor]) -> None:
    """Tensors of the sites not asked for are gone while those asked for are still held."""
    passed: dict[int, weakref.ref] = {}
    spies = [
        layer.register_forward_hook(lambda module, args, output, i=i: passed.__setitem__(i, weakref.ref(output)))
        for i, layer in enumerate(decoder_layers(llama))
    ]
    with StateCapture(llama, ["layer_1_out"]) as capture, torch.no_grad():
        with capture.armed():
            llama(**batch)
        gc.collect()
        # Detached tensors share storage: the spied tensor itself may go, its values may not.
        assert passed[0]() is None
        assert passed[2]() is None
        states = capture.take()
    for spy in spies:
        spy.remove()
    assert list(states) == ["layer_1_out"]


def test_hooks_listen_only_when_armed_and_leave_with_the_capture(llama: Any, batch: dict[str, torch.Tensor]) -> None:
    def count() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.modules())

    before = count()
    with StateCapture(llama, ["embed", "layer_1_out"]) as capture, torch.no_grad():
        assert count() == before + 3
        llama(**batch)
        with pytest.raises(ModelError, match="at least once while its hidden states were captured, but ran 0 times"):
            capture.take()
        with capture.armed():
            llama(**batch)
            llama(**batch)
        assert capture.take(2)["embed"].shape == (3, 18, 16)
    assert count() == before
    assert all(len(hooks) == 0 for m in llama.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))


def test_a_site_that_does_not_fire_is_named(llama: Any, batch: dict[str, torch.Tensor]) -> None:
    model = copy.deepcopy(llama)
    with StateCapture(model, ["layer_0_out", "layer_1_out"]) as capture, torch.no_grad():
        model.model.layers = torch.nn.ModuleList([decoder_layers(model)[0]])  # as a model that skips layers would
        with capture.armed():
            model(**batch, use_cache=False)
        with pytest.raises(
            ModelError, match=r"'layer_1_out' of LlamaModel fired 0 times in 1 forward.*layer_0_out': 1"
        ):
            capture.take()


def test_a_site_that_fires_twice_is_named(llama: Any, batch: dict[str, torch.Tensor]) -> None:
    model = copy.deepcopy(llama)
    first, second, _ = decoder_layers(model)
    with StateCapture(model, ["layer_0_out", "layer_1_out"]) as capture, torch.no_grad():
        model.model.layers = torch.nn.ModuleList([first, first, second])
        with capture.armed():
            model(**batch, use_cache=False)
        with pytest.raises(
            ModelError, match=r"'layer_0_out' of LlamaModel fired 2 times in 1 forward.*layer_1_out': 1"
        ):
            capture.take()


def test_more_forwards_than_were_due(llama: Any, batch: dict[str, torch.Tensor]) -> None:
    with StateCapture(llama, ["embed"]) as capture, torch.no_grad():
        with capture.armed():
            llama(**batch)
            llama(**batch)
        with pytest.raises(
            ModelError, match="should have run 1 times while its hidden states were captured, but ran 2 times"
        ):
            capture.take(1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layer_3_out"], r"'layer_3_out' is no site of LlamaForCausalLM.*layer_0_out to layer_2_out"),
        (["layer_-4_out"], "is no site"),
        (["hidden"], "'hidden' is no site"),
        ([], "No site was named"),
    ],
)
def test_sites_that_a_model_does_not_have(llama: Any, names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_sites(llama, names)


def test_names_of_sites(llama: Any) -> None:
    assert resolve_sites(llama, ["final_norm_out", "layer_-1_out", "embed", "layer_2_out"]) == [
        "embed",
        "layer_2_out",
        "final_norm_out",
    ]
    assert resolve_sites(llama, ["all"]) == SITES
    assert default_sites(llama)[0] == "embed"
    assert default_sites(llama)[-1] == "final_norm_out"


@pytest.mark.parametrize(
    ("sequences", "starts", "message"),
    [([[]], None, "0 tokens"), ([[5, 6]], [2], "2 tokens, of which 2"), ([[5]], [0, 0], "one number a sequence")],
)
def test_sequences_with_nothing_to_read(llama: Any, sequences: Any, starts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(capture_sequences(llama, sequences, ["embed"], starts=starts))


def test_models_without_a_decoder() -> None:
    with pytest.raises(ModelError, match="has no `get_decoder`"):
        resolve_sites(torch.nn.Linear(2, 2), ["embed"])
    from transformers import BartConfig, BartForConditionalGeneration

    bart = BartForConditionalGeneration(
        BartConfig(
            vocab_size=20,
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            encoder_attention_heads=1,
            decoder_attention_heads=1,
        )
    )
    with pytest.raises(ModelError, match="encoder-decoder"):
        resolve_sites(bart, ["embed"])


def test_a_wrapper_is_taken_off_and_a_model_with_adapters_of_its_own_is_left_as_it_is() -> None:
    model = SimpleNamespace()
    wrapper = SimpleNamespace(peft_config={}, base_model=object(), get_base_model=lambda: model)
    assert language_model_of(wrapper) is model
    model.peft_config = {}  # as transformers writes it when it loads adapters into a model
    assert language_model_of(model) is model
