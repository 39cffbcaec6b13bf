"""Splitting a batch over threads changes neither the answers nor the number of threads."""

import pytest
import torch

from relax_rl.errors import ConfigError
from relax_rl.koopman.linalg.eigensolvers import CPU_EIGENSOLVER_SIZE, eig, eigensolver_device, eigh, solver_device


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


def test_small_problems_of_a_gpu_go_to_the_cpu_unless_told_otherwise() -> None:
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    small, large = CPU_EIGENSOLVER_SIZE, CPU_EIGENSOLVER_SIZE + 1
    assert (solver_device(gpu, small), solver_device(gpu, large)) == (cpu, gpu)
    with eigensolver_device("input"):
        assert solver_device(gpu, small) == gpu
        with eigensolver_device("cpu"):
            assert solver_device(gpu, large) == cpu
        assert solver_device(gpu, small) == gpu
    assert (solver_device(gpu, small), solver_device(gpu, large)) == (cpu, gpu)
    assert solver_device(cpu, large) == cpu
    with pytest.raises(ConfigError, match="eigensolver device"), eigensolver_device("gpu"):  # pyright: ignore[reportArgumentType]
        pass
