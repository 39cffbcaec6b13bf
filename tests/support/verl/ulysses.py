# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""verl's Ulysses attention on a CPU: its own exchange of heads and tokens, around a kernel that is not flash-attention.

Import it before a model is built with ``attn_implementation="ulysses_on_cpu"``.
"""

import torch
from transformers import AttentionInterface
from verl.models.transformers import monkey_patch

__all__ = ["NAME"]

NAME = "ulysses_on_cpu"


def _attention(module, query, key, value, attention_mask, scaling=None, position_ids=None, **kwargs):
    # As transformers calls flash-attention: (B, L, heads, width).
    given = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    length = given[0].shape[1]
    found = monkey_patch._ulysses_flash_attention_forward(
        *given, None, length, position_ids=position_ids, softmax_scale=scaling
    )
    return found, None


def _kernel(query, key, value, attention_mask, query_length, *, position_ids, softmax_scale, **kwargs):
    """In place of flash-attention for packed sequences, each of which begins at position 0."""
    sequence = (position_ids[0] == 0).cumsum(0)
    is_seen = (sequence[:, None] == sequence).tril()
    heads = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    found = torch.nn.functional.scaled_dot_product_attention(
        *heads, attn_mask=is_seen, scale=softmax_scale, enable_gqa=True
    )
    return found.transpose(1, 2)


monkey_patch._flash_attention_forward = _kernel
AttentionInterface.register(NAME, _attention)
