"""Splitting a batch over threads changes neither the answers nor the number of threads."""

import pytest
import torch

from relax_rl.koopman.eigensolvers import eig, eigh


@pytest.mark.parametrize("batch", [(), (0,), (1,), (9,), (3, 5)])
def test_split_equals_whole(batch: tuple[int, ...]) -> None:
    matrices = torch.randn((*batch, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.set_num_threads(3)
    values, vectors = eig(matrices)
    symmetric_values, symmetric_vectors = eigh(matrices @ matrices.mT)
    assert torch.get_num_threads() == 3
    torch.testing.assert_close(matrices.to(vectors.dtype) @ vectors, vectors * values.unsqueeze(-2))
    torch.testing.assert_close(
        matrices @ matrices.mT @ symmetric_vectors, symmetric_vectors * symmetric_values[..., None, :]
    )
    assert values.shape == symmetric_values.shape == (*batch, 6)
    assert (symmetric_values.diff(dim=-1) >= 0).all()


def test_the_number_of_threads_survives_an_error() -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="square"):
        eig(torch.ones(20, 3, 4))
    assert torch.get_num_threads() == 2
