"""How many directions: by number, by energy, by what stands out of noise."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from relax_rl.errors import ConfigError
from relax_rl.koopman.linalg.ranks import check_rank, hard_threshold, select_rank


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 1.0])
def test_hard_threshold_against_quadrature(ratio: float) -> None:
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2

    def mass(x: float) -> float:
        return quad(lambda t: np.sqrt(max((high - t) * (t - low), 0)) / (2 * np.pi * ratio * t), low, x, limit=200)[0]

    median = brentq(lambda x: mass(x) - 0.5, low + 1e-9, high - 1e-9, xtol=1e-12)
    known = np.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + np.sqrt(ratio**2 + 14 * ratio + 1)))
    assert hard_threshold(int(1000 * ratio), 1000) == pytest.approx(known / np.sqrt(median), abs=1e-6)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_hard_threshold_is_the_printed_one() -> None:
    assert hard_threshold(7, 7) == pytest.approx(2.8582, abs=2e-4)  # Gavish and Donoho (2014), Table IV
    assert hard_threshold(50, 100) == hard_threshold(100, 50)


def test_hard_threshold_finds_the_signal() -> None:
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.standard_normal((200, 4)))[0], np.linalg.qr(rng.standard_normal((100, 4)))[0]
    noise = rng.standard_normal((200, 100)) / np.sqrt(200)
    values = np.linalg.svd(left @ np.diag([9.0, 7.0, 5.0, 4.0]) @ right.T + noise, compute_uv=False)
    chosen = select_rank(torch.from_numpy(values), "optimal", torch.tensor(200), 100, 1e-12)
    assert chosen == 4
    padded = torch.from_numpy(np.r_[np.linalg.svd(noise[:60], compute_uv=False), np.zeros(40)])
    assert select_rank(padded, "optimal", torch.tensor(60), 100, 1e-12) == 0


def test_number_energy_and_rounding() -> None:
    values = torch.tensor([[4.0, 2.0, 1.0, 1e-20], [4.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    rows = torch.tensor([9, 9])
    assert select_rank(values, None, rows, 4, 1e-15).tolist() == [3, 4]
    assert select_rank(values, 2, rows, 4, 1e-15).tolist() == [2, 2]
    assert check_rank(np.int64(2), 4) == 2  # pyright: ignore[reportArgumentType]  # of a grid search over np.arange
    assert select_rank(values, 4, rows, 4, 1e-15).tolist() == [3, 4]
    # Shares of the energy: 16/21, 20/21, 1 and 16/28, 20/28, 24/28, 1.
    assert select_rank(values, 0.95, rows, 4, 1e-15).tolist() == [2, 4]
    assert select_rank(values, 0.7, rows, 4, 1e-15).tolist() == [1, 2]


@pytest.mark.parametrize("rank", [0, 5, 0.0, 1.0, -1, "best", True])
def test_other_ranks_are_refused(rank) -> None:
    with pytest.raises(ConfigError, match="rank must"):
        check_rank(rank, 4)
