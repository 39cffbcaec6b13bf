"""The contract of a model: what it says of real families, and of folders that are broken."""

import pytest
import torch
from transformers import GenerationConfig

from relax_rl.errors import ModelError
from relax_rl.latent.contract import read_contract
from relax_rl.latent.contract.generation import neutral_generation, steering
from relax_rl.training.models import load_model, load_tokenizer
from support.architectures import build
from support.broken_models import FAULTS, copy_of_tiny, edit_json

FAMILIES = {
    "Llama": ("LlamaForCausalLM", "norm (LlamaRMSNorm)", "attention", 512, False),
    "Qwen3": ("Qwen3ForCausalLM", "norm (Qwen3RMSNorm)", "attention", 512, False),
    "Gemma-2": ("Gemma2ForCausalLM", "norm (Gemma2RMSNorm)", "sliding", 512, True),
    "GPT-2": ("GPT2LMHeadModel", "ln_f (LayerNorm)", "attention", 512, True),
    "OPT": ("OPTForCausalLM", "final_layer_norm (LayerNorm)", "attention", 512, True),
    "BLOOM": ("BloomForCausalLM", "ln_f (LayerNorm)", "attention", None, True),
    "Qwen3.5": ("Qwen3_5ForCausalLM", "norm (Qwen3_5RMSNorm)", "hybrid", 512, False),
    "Granite-4 hybrid": ("GraniteMoeHybridForCausalLM", "norm (GraniteMoeHybridRMSNorm)", "hybrid", 512, False),
    "LFM2": ("Lfm2ForCausalLM", "embedding_norm (Lfm2RMSNorm)", "hybrid", 512, True),
    "Mamba": ("MambaForCausalLM", "norm_f (MambaRMSNorm)", "recurrent", None, True),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_ten_families(family, tmp_path):
    contract = read_contract(str(build(family, tmp_path / "model")), values=True)
    kind = contract.architecture
    found = (kind.model_class, kind.final_norm, kind.cache, kind.context, kind.is_tied)
    assert found == FAMILIES[family]
    assert contract.problems == ()
    assert contract.load is not None
    assert contract.load.unexpected == ()
    assert contract.tokens.stop == (257,)
    model, _ = load_model(str(tmp_path / "model"))
    assert kind.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_soft_caps_and_dropout(tmp_path):
    gemma = read_contract(str(build("Gemma-2", tmp_path / "gemma"))).architecture
    assert gemma.soft_caps == {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    gpt2 = read_contract(str(build("GPT-2", tmp_path / "gpt2", attn_pdrop=0.1, resid_pdrop=0.2))).architecture
    assert gpt2.dropout == {"attn_dropout": 0.1, "dropout": 0.2, "resid_dropout": 0.2}
    opt = read_contract(str(build("OPT", tmp_path / "opt", dropout=0.1, layerdrop=0.3))).architecture
    assert opt.dropout == {"dropout": 0.1, "layerdrop": 0.3}


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        ({"rope_type": "default"}, 512),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"rope_type": "linear", "factor": 2.0}, 1024),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0}, 512),
    ],
)  # fmt: skip
def test_a_stretched_context(rope, length, tmp_path):
    folder = copy_of_tiny(tmp_path / "model", rope_parameters={"rope_theta": 10000.0, **rope})
    assert read_contract(str(folder)).architecture.context == length


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_folder_is_one_sentence(fault, tmp_path):
    folder = copy_of_tiny(tmp_path / "model")
    damage, words = FAULTS[fault]
    damage(folder)
    (problem,) = read_contract(str(folder), values=True).problems
    assert words in problem
    if fault != "no end token":  # which only matters where something is generated
        with pytest.raises(ModelError) as refusal:
            load_model(str(folder))
        assert words in str(refusal.value)


def test_a_tied_head_is_not_missing_and_a_tensor_too_many_is_said(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of_tiny(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    save_file({**weights, "value_head.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    contract = read_contract(str(folder))
    assert contract.problems == ()
    assert contract.load is not None
    assert contract.load.missing == ()
    assert any("value_head.weight" in note for note in contract.notes)


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_quantised_weights(method, tmp_path):
    settings = {"quant_method": method, "bits": 4, "group_size": 128}
    folder = copy_of_tiny(tmp_path / "model", quantization_config=settings)
    assert read_contract(str(folder)).architecture.quantization == method
    with pytest.raises(ModelError, match=f"quantised \\({method}\\) and cannot be trained"):
        load_model(str(folder), trains=True)
    with pytest.raises(ModelError, match=f"quantised by {method}"):
        load_model(str(folder))


# Templates ------------------------------------------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def template_of(text, **switches):
    from relax_rl.latent.contract.template import read_template

    tokenizer = load_tokenizer("tiny")
    tokenizer.chat_template = text
    return read_template(tokenizer, switches)


def test_a_template_of_turns():
    template = template_of(CHATML)
    assert (template.exists, template.takes_system, template.opens, template.switches) == (True, True, "", ())
    assert template.turn_end == 257


@pytest.mark.parametrize(
    "refusal",
    ["{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML,
     CHATML.replace("messages %}", "messages if m['role'] != 'system' %}")],
    ids=["raises", "drops it"],
)  # fmt: skip
def test_a_template_that_takes_no_system_message(refusal):
    assert not template_of(refusal).takes_system


def test_a_template_that_opens_a_thought_and_its_switch():
    text = CHATML.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% if closed %}\n</think>\n{% endif %}{% endif %}"
    )
    assert template_of(text).opens == "<think>\n"
    assert template_of(text).switches == ("closed",)
    assert template_of(text, closed=True).opens == ""


def test_a_turn_that_ends_in_words_has_no_end_token():
    assert template_of(CHATML.replace("<|end|>", "###")).turn_end is None


def test_a_template_that_cannot_render_a_question():
    with pytest.raises(ModelError, match="cannot render a question: no questions here"):
        template_of("{{ raise_exception('no questions here') }}")


# generation_config.json -----------------------------------------------------------------------------------------------


def test_what_would_steer_and_what_would_not(tmp_path):
    folder = copy_of_tiny(tmp_path / "model")
    steers = {"suppress_tokens": [5, 6], "no_repeat_ngram_size": 1, "min_new_tokens": 4, "repetition_penalty": 1.2}
    edit_json(folder / "generation_config.json", **steers, max_new_tokens=7, temperature=1.0, top_p=1.0)
    contract = read_contract(str(folder))
    assert dict(contract.steering) == steers
    assert contract.problems == ()
    (note,) = contract.notes
    assert all(name in note for name in steers)
    assert steering(GenerationConfig()) == {}
    assert read_contract("tiny").notes == ()


def test_generation_is_neutral_inside_and_as_it_was_afterwards():
    model, _ = load_model("tiny")
    prompt = torch.tensor([[10, 11, 12]])
    asked = GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=257, pad_token_id=256)
    free = model.generate(prompt, generation_config=asked)
    model.generation_config.suppress_tokens = free[0, 3:].tolist()
    own = model.generation_config
    with neutral_generation(model):
        assert model.generate(prompt, generation_config=asked).tolist() == free.tolist()
    assert model.generation_config is own
    assert model.generate(prompt, generation_config=asked).tolist() != free.tolist()


# Adapters -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path):
    peft = pytest.importorskip("peft")
    base = copy_of_tiny(tmp_path / "base")
    model, _ = load_model(str(base))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_folder_loads_with_its_base(adapter):
    contract = read_contract(str(adapter), values=True)
    assert contract.problems == ()
    assert contract.adapter is not None
    assert contract.adapter.base.endswith("base")
    merged, _ = load_model(str(adapter))
    beside, _ = load_model(str(adapter), trains=True)
    base, _ = load_model(contract.adapter.base)
    ids = torch.tensor([[10, 11, 12, 13]])
    with torch.no_grad():
        logits = [model(ids).logits for model in (merged, beside, base)]
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], atol=1e-2)
    learns = [name for name, parameter in beside.named_parameters() if parameter.requires_grad]
    assert learns
    assert all("lora" in name for name in learns)


def test_an_adapter_without_peft(adapter, monkeypatch):
    from relax_rl.errors import DependencyError

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install peft"):
        load_model(str(adapter))
