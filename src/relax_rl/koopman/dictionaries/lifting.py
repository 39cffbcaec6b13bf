"""The lift, sigmoid(x W): one pass forward, one pass back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["sigmoid_lift"]


def sigmoid_lift(states: Tensor, weight: Tensor) -> Tensor:
    """Observables sigmoid(x W) of hidden states, differentiable once in both.

    Of the hidden states only their gradient is ever as large as they are: the derivative of the sigmoid needs its value
    alone, (..., F).

    Args:
        states: (..., H), any floating dtype.
        weight: W, (H, F); everything is computed in its dtype (float32 in a `KoopmanDictionary`), whatever that of the
            states or autocast.

    Returns:
        (..., F), in the dtype of the weight.
    """
    return _SigmoidLift.apply(states, weight)  # type: ignore[return-value]


class _SigmoidLift(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        with torch.autocast(states.device.type, enabled=False):
            lifted = _product(states.reshape(-1, states.shape[-1]).to(weight.dtype), weight.T).sigmoid_()
        lifted = lifted.view(*states.shape[:-1], weight.shape[1])
        # The output alone: the slope of a sigmoid is s (1 - s), so the product before it need not be kept. The states
        # are kept only where W is being fitted.
        ctx.save_for_backward(lifted, weight, states if ctx.needs_input_grad[1] else None)
        # The gradient goes back in the dtype of the model, often bfloat16.
        ctx.states_dtype = states.dtype
        return lifted

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_lifted: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        lifted, weight, states = ctx.saved_tensors
        # Autocast is switched off here too: the backward pass does not run inside the contexts of the forward pass.
        grad_states = grad_weight = None
        with torch.autocast(lifted.device.type, enabled=False):
            slope = torch.ops.aten.sigmoid_backward(grad_lifted, lifted).view(-1, lifted.shape[-1])
            if ctx.needs_input_grad[0]:
                grad_states = _product(slope, weight).view(*lifted.shape[:-1], -1).to(ctx.states_dtype)
            if states is not None:
                grad_weight = states.reshape(-1, states.shape[-1]).to(weight.dtype).T @ slope
        return grad_states, grad_weight


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right^T, in float32 on a CPU by oneDNN where torch carries it.

    A tall matrix times a narrow one is 2.6 times as fast there as in the BLAS behind `@` on an AMD processor (13
    against 34 ms for 32768 x 576 by 576 x 50, one thread), and `torch.set_float32_matmul_precision` does not reach it.
    """
    has_onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if has_onednn and left.device.type == "cpu" and left.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return left @ right.T
