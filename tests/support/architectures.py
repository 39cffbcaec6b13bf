"""Tiny models of real architectures: real configuration classes, random weights, the tokenizer of the package.

``build("Gemma-2", folder)`` writes a model folder in a few hundredths of a second that loads as any other does.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "MORE", "Architecture", "build", "config_of", "model_of"]

VOCABULARY, PAD, END = 262, 256, 257
"""Of the tokenizer of the package."""


@dataclass(frozen=True)
class Architecture:
    """A family of models.

    Attributes:
        kind: what sets it apart from other families.
        model_type: transformers' name of it.
        settings: of its configuration, beside those that all have.
        pad_token: whether its configuration and tokenizer name a pad token.
    """

    kind: str
    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    pad_token: bool = True


_WIDTHS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_WINDOW: dict[str, Any] = {"sliding_window": 8}
"""Shorter than a prompt and its completion, so that the window acts."""
_HYBRID: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"]}
_DELTA_NET: dict[str, Any] = {
    **_HYBRID,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA_2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
_LATENT_ATTENTION: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_DEEPSEEK: dict[str, Any] = {
    **_LATENT_ATTENTION,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def _llama_like(kind: str, model_type: str, **settings: Any) -> Architecture:
    return Architecture(kind, model_type, _WIDTHS | settings)


ARCHITECTURES: dict[str, Architecture] = {
    "Llama": _llama_like("attention", "llama"),
    "Llama without a pad token": Architecture("no pad token", "llama", _WIDTHS, pad_token=False),
    "Qwen2": _llama_like("biases", "qwen2"),
    "Qwen3": _llama_like("norms of queries and keys", "qwen3"),
    "Qwen3-MoE": _llama_like("mixture of experts", "qwen3_moe", **_EXPERTS),
    "Mixtral": _llama_like("mixture of experts", "mixtral", num_local_experts=4, num_experts_per_tok=2),
    "Gemma-2": _llama_like("soft caps, sliding window", "gemma2", **_WINDOW, query_pre_attn_scalar=8),
    "Gemma-3 text": _llama_like(
        "sliding window",
        "gemma3_text",
        **_WINDOW,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "Phi-3": _llama_like("joined projections", "phi3"),
    "Mistral": _llama_like("sliding window", "mistral", **_WINDOW),
    "OLMo-2": _llama_like("norms after the layers", "olmo2"),
    "GLM-4": _llama_like("norms after the layers, half rotated", "glm4"),
    "Granite": _llama_like(
        "scaled logits",
        "granite",
        logits_scaling=4.0,
        embedding_multiplier=6.0,
        residual_multiplier=0.5,
        attention_multiplier=0.125,
    ),
    "SmolLM3": _llama_like("layers without positions", "smollm3", no_rope_layers=[1, 0]),
    "DeepSeek-V3": _llama_like("latent attention, mixture of experts", "deepseek_v3", **_DEEPSEEK),
    "gpt-oss": _llama_like(
        "attention sinks, mixture of experts", "gpt_oss", **_WINDOW, num_local_experts=4, num_experts_per_tok=2
    ),
    "Cohere-2": _llama_like(
        "parallel layers, sliding window",
        "cohere2",
        **_WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "GPT-NeoX": _llama_like("parallel layers", "gpt_neox"),
    "BLOOM": Architecture("alibi", "bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "Falcon": Architecture(
        "one key head, parallel layers", "falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    ),
    "MPT": Architecture("alibi", "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}),
    "StarCoder-2": _llama_like("sliding window", "starcoder2", **_WINDOW),
    "EXAONE-4": _llama_like(
        "sliding window, layers without positions",
        "exaone4",
        **_WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "GPT-2": Architecture(
        "learned positions",
        "gpt2",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 512,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    ),
    "OPT": Architecture(
        "learned positions",
        "opt",
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "dropout": 0.0,
        },
    ),
    "Qwen3.5": _llama_like("hybrid, gated delta net", "qwen3_5_text", **_DELTA_NET),
    "Qwen3-Next": _llama_like(
        "hybrid, gated delta net, mixture of experts",
        "qwen3_next",
        **_DELTA_NET,
        **_EXPERTS,
        shared_expert_intermediate_size=32,
    ),
    "Granite-4 hybrid": _llama_like(
        "hybrid, Mamba-2, mixture of experts",
        "granitemoehybrid",
        **_HYBRID,
        **_MAMBA_2,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
    ),
    "LFM2": _llama_like("hybrid, short convolutions", "lfm2", layer_types=["conv", "full_attention"]),
    "Bamba": _llama_like("hybrid, Mamba-2", "bamba", **_MAMBA_2, attn_layer_indices=[1]),
    "Falcon-H1": _llama_like("hybrid in each layer, Mamba-2", "falcon_h1", **_MAMBA_2, mamba_d_ssm=64),
    "Jamba": _llama_like(
        "hybrid, Mamba, mixture of experts",
        "jamba",
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=4,
        mamba_d_state=8,
        mamba_dt_rank=4,
    ),
    "Mamba": Architecture(
        "recurrent", "mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4}
    ),
    "Mamba-2": Architecture(
        "recurrent",
        "mamba2",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 8,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 1,
            "chunk_size": 16,
        },
    ),
    "RecurrentGemma": Architecture(
        "hybrid, linear recurrence, sliding window",
        "recurrent_gemma",
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "lru_width": 32,
            "attention_window_size": 8,
        },
    ),
    "RWKV": Architecture(
        "recurrent",
        "rwkv",
        {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 512},
    ),
}
"""The matrix of the documentation."""

MORE: dict[str, Architecture] = {
    "Falcon with alibi": Architecture(
        "alibi, one key head",
        "falcon",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    ),
    "FalconMamba": Architecture(
        "recurrent", "falcon_mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4}
    ),
    "Llama-4 text": _llama_like(
        "chunked attention, mixture of experts",
        "llama4_text",
        attention_chunk_size=8,
        num_local_experts=4,
        intermediate_size_mlp=64,
        layer_types=["chunked_attention", "full_attention"],
    ),
    "DeepSeek-V4": _llama_like(
        "compressed attention, mixture of experts",
        "deepseek_v4",
        **_DEEPSEEK
        | _WINDOW
        | {
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"],
        },
    ),
    "Gemma-4 text": _llama_like(
        "sliding window, embeddings in each layer",
        "gemma4_text",
        **_WINDOW,
        global_head_dim=8,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
        layer_types=["sliding_attention", "full_attention"],
        num_kv_shared_layers=0,
    ),
    "Nemotron-H": _llama_like(
        "hybrid, Mamba-2",
        "nemotron_h",
        num_hidden_layers=3,
        layers_block_type=["linear_attention", "mlp", "full_attention"],
        mamba_num_heads=8,
        mamba_head_dim=8,
        ssm_state_size=8,
        n_groups=1,
        chunk_size=16,
    ),
    "Zamba-2": _llama_like(
        "hybrid in some layers, Mamba-2",
        "zamba2",
        num_hidden_layers=3,
        layers_block_type=["linear_attention", "linear_attention", "hybrid"],
        mamba_d_state=8,
        mamba_headdim=8,
        mamba_ngroups=1,
        n_mamba_heads=8,
        mamba_expand=2,
        chunk_size=16,
        num_mem_blocks=1,
        attention_head_dim=16,
        use_shared_attention_adapter=False,
    ),
    "OLMo hybrid": _llama_like("hybrid, gated delta net", "olmo_hybrid", **_DELTA_NET | {"linear_num_value_heads": 2}),
    "Kimi-Linear": _llama_like(
        "hybrid, latent attention, mixture of experts",
        "kimi_linear",
        **_DEEPSEEK
        | _HYBRID
        | {
            "num_experts": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "short_conv_kernel_size": 4,
        },
    ),
    "Qwen3.5-MoE": _llama_like(
        "hybrid, gated delta net, mixture of experts",
        "qwen3_5_moe_text",
        **_DELTA_NET,
        **_EXPERTS,
        shared_expert_intermediate_size=32,
    ),
    "LFM2-MoE": _llama_like(
        "hybrid, short convolutions, mixture of experts",
        "lfm2_moe",
        **_EXPERTS,
        num_dense_layers=1,
        layer_types=["conv", "full_attention"],
    ),
    "HRM text": _llama_like("looped", "hrm_text", num_hidden_layers=1, H_cycles=2, L_cycles=3),
    "GPT-Neo": Architecture(
        "learned positions",
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": 512,
        },
    ),
    "XGLM": Architecture(
        "fixed positions",
        "xglm",
        {
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 64,
            "max_position_embeddings": 512,
            "dropout": 0.0,
        },
    ),
}
"""Families of kinds that the matrix has, too."""


def config_of(name: str, **settings: Any) -> Any:
    """The configuration of an architecture, with `settings` in place of its own."""
    from transformers import AutoConfig

    known = (ARCHITECTURES | MORE)[name]
    pad = {"pad_token_id": PAD if known.pad_token else None}
    shared = {"vocab_size": VOCABULARY, "bos_token_id": END, "eos_token_id": END, "initializer_range": 0.1} | pad
    return AutoConfig.for_model(known.model_type, **shared | known.settings | settings)


def model_of(name: str, *, seed: int = 0, **settings: Any) -> Any:
    """A model of an architecture with random weights, in float32, for evaluation."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config_of(name, **settings), dtype=torch.float32).eval()


def build(name: str, folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write a model folder: weights, configuration and the tokenizer of the package.

    Args:
        name: of `ARCHITECTURES` or `MORE`.
        folder: is made if it is not there.
        seed: of the weights.
        settings: of the configuration, in place of the architecture's.
    """
    model = model_of(name, seed=seed, **settings)
    model.save_pretrained(folder)
    for part in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(str(files("relax_rl.assets") / "tiny" / part), folder)
    if not (ARCHITECTURES | MORE)[name].pad_token:
        path = folder / "tokenizer_config.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "pad_token"}
        path.write_text(json.dumps(kept))
    return folder
