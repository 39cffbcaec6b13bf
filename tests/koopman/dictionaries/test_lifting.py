"""The lift and its gradients against float64 autograd."""

import pytest
import torch

from relax_rl.koopman.dictionaries.lifting import sigmoid_lift


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_value_and_gradients(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn((3, 5, 16), generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn((16, 7), generator=generator) / 4).requires_grad_()
    upstream = torch.randn((3, 5, 7), generator=generator)
    lifted = sigmoid_lift(states, weight)
    gradients = torch.autograd.grad(lifted, (states, weight), upstream)
    expected = torch.sigmoid(states.double() @ weight.double())
    references = torch.autograd.grad(expected, (states, weight), upstream.double())
    assert lifted.dtype == torch.float32
    torch.testing.assert_close(lifted.double(), expected, rtol=1e-5, atol=1e-6)
    for gradient, reference in zip(gradients, references, strict=True):
        assert gradient.dtype == reference.dtype
        tolerance = 1e-2 if reference.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(gradient, reference, rtol=tolerance, atol=tolerance)


def test_gradcheck_and_no_rows() -> None:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn((4, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn((3, 2), generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sigmoid_lift, (states, weight))
    assert sigmoid_lift(torch.zeros(2, 0, 3), torch.ones(3, 2)).shape == (2, 0, 2)


def test_autocast_in_the_backward_pass_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    states, weight = torch.randn((9, 8), generator=generator).requires_grad_(), torch.randn((8, 4), generator=generator)
    (plain,) = torch.autograd.grad(sigmoid_lift(states, weight).sum(), states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = torch.autograd.grad(sigmoid_lift(states, weight).sum(), states)
    assert torch.equal(plain, cast)
