"""Exponents and Jacobians of a language model along texts, against its Jacobians written out."""

import math
from typing import Any

import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.latent.jacobian import token_jacobians
from relax_rl.spectra.jacobian import JacobianSettings, jacobian_spectrum
from relax_rl.spectra.reading import LatentText

transformers = pytest.importorskip("transformers")

SETTINGS = JacobianSettings(count=3, max_tokens=12, num_points=1, iterations=40, warm_up=2)


def small() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def texts(*lengths: int) -> list[LatentText]:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(1, 32, (length,), generator=generator).tolist() for length in lengths]
    return [LatentText(f"text-{number}", tuple(row), 2) for number, row in enumerate(ids)]


@pytest.mark.slow
def test_exponents_and_points_are_those_of_the_jacobians() -> None:
    model = small()
    found = jacobian_spectrum(model, texts(12, 15, 4), SETTINGS, name="small")
    assert (found.num_texts, found.num_tokens) == (2, (10 - 2) + (12 - 2))
    assert found.remarks[0] == "1 of 3 texts are left out: fewer than 4 tokens."
    values = [estimate.value for estimate in found.exponents]
    assert values == sorted(values, reverse=True)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in found.exponents)
    for point in found.points:
        ids = next(text.token_ids for text in texts(12, 15, 4) if text.id == point.id)
        # The first that fits, and no further: its products are of the token that was reached last.
        jacobian = next(each for each in token_jacobians(model, ids, start=2) if each.position == point.position)
        matrix = jacobian.push(torch.eye(12).double())
        torch.testing.assert_close(
            torch.tensor(point.singular_values).double(), torch.linalg.svdvals(matrix)[:3], rtol=1e-3, atol=1e-5
        )
        largest = torch.linalg.eigvals(matrix).abs().max()
        assert math.hypot(*point.eigenvalues[0]) == pytest.approx(float(largest), rel=1e-3)
        break
    assert set(found.fitted) == {"least_squares", "instrumental"}
    assert all(len(logs) == 3 for logs in found.fitted.values())


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="No text has 4 tokens to measure"):
        jacobian_spectrum(small(), texts(4), SETTINGS)
    with pytest.raises(ConfigError, match="states of width 12"):
        jacobian_spectrum(small(), texts(12), JacobianSettings(count=13, rank=13))
    for words in ({"count": 0}, {"count": 9}, {"warm_up": -1}):
        with pytest.raises(ConfigError):
            JacobianSettings(**words)
