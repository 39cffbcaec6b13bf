"""Synthetic systems whose spectra are known, made with numpy so that nothing under test makes its own reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from relax_rl.koopman import KoopmanDictionary


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def linear_system() -> Callable[..., Tensor]:
    """(spread, T, B, seed, H) -> stationary (B, T, H) float64; half the moduli 0.5 - spread, half 0.5 + spread."""

    def simulate(spread: float, T: int, B: int, seed: int, H: int = 16) -> Tensor:
        rng = np.random.default_rng(seed)
        moduli = np.array([0.5 - spread] * (H // 2) + [0.5 + spread] * (H // 2))
        state = rng.standard_normal((B, H))
        states = []
        for _ in range(T):
            states.append(state)
            state = state * moduli + rng.standard_normal((B, H)) * np.sqrt(1 - moduli**2)
        mixing, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((H, H)))
        return torch.from_numpy(np.stack(states, 1) @ mixing)

    return simulate


@pytest.fixture(scope="session")
def dictionary() -> KoopmanDictionary:
    """A random dictionary, H = 16, F = 12."""
    rng = np.random.default_rng(7)
    return KoopmanDictionary(torch.from_numpy(rng.uniform(-1, 1, (16, 12)) / 4))
