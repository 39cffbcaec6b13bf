"""The spectrum of all completions of an evaluation together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.evaluation import dynamics
from relax_rl.evaluation.result import PooledSpectrum


def spectrum_of(num_pairs: int, monkeypatch: pytest.MonkeyPatch) -> PooledSpectrum | None:
    values = torch.tensor([0.5, -1.0, 0.25 + 0.5j], dtype=torch.complex64)
    monkeypatch.setattr(dynamics, "least_squares_operator", lambda statistics: SimpleNamespace(matrix=None))
    monkeypatch.setattr(dynamics, "eigenpairs", lambda matrix: (values, torch.eye(3)))
    monkeypatch.setattr(dynamics, "squared_residuals", lambda *_: torch.tensor([0.25, -1e-20, 4.0]))
    statistics: Any = SimpleNamespace(num_pairs=torch.tensor(num_pairs), num_observables=3)
    dictionary: Any = SimpleNamespace(digest="abc")
    found = dynamics.pooled_modes(statistics, dictionary)
    return None if found is None else found.spectrum


def test_eigenvalues_come_by_their_modulus_and_a_residual_of_rounding_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectrum_of(4, monkeypatch) == PooledSpectrum(
        eigenvalues=((-1.0, 0.0), (0.25, 0.5), (0.5, 0.0)),
        residuals=(0.0, 2.0, 0.5),
        num_observables=3,
        dictionary_digest="abc",
    )


def test_as_many_observables_as_pairs_have_no_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectrum_of(3, monkeypatch) is None
    assert dynamics.pooled_modes(None, SimpleNamespace(digest="")) is None  # pyright: ignore[reportArgumentType]
