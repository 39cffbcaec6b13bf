"""`dispersion_of`: from a model and texts to dispersions, equal to the parts put together by hand."""

from typing import Any

import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary, dynamic_spectral_dispersion
from relax_rl.training.models import load_tokenizer
from relax_rl.workflows.dispersion import dispersion_of
from support.scripted import tiny_llama

TEXTS = [" ".join(f"{number}+{number + step}={2 * number + step}," for number in range(4, 16)) for step in range(3)]


@pytest.fixture(scope="module")
def read():
    return tiny_llama(), load_tokenizer("tiny")


def test_it_is_the_dispersion_of_the_models_states(read: tuple[Any, Any]):
    found = dispersion_of(*read, [*TEXTS, "1+1=2"], num_observables=6, fit_steps=3)
    model, tokenizer = read
    fitted: Any = KoopmanDictionary.fit(list(found.states), 6, 3, 0)
    assert found.dictionary.digest == fitted.digest == found.dispersion.dictionary_digest
    for place, text in enumerate(TEXTS):
        with torch.no_grad():
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            states = model(ids, output_hidden_states=True).hidden_states[-1]
        mask = torch.ones(states.shape[:2], dtype=torch.bool)
        expected = dynamic_spectral_dispersion(states, mask, fitted, "robust")
        torch.testing.assert_close(found.values[place], expected.values[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.states[place], states[0], atol=1e-5, rtol=1e-4)
    assert found.is_defined.tolist() == [True, True, True, False]


def test_a_dictionary_measures_other_texts(read: tuple[Any, Any], tmp_path):
    first = dispersion_of(*read, TEXTS[:2], num_observables=6, fit_steps=0, estimator="paper")
    first.dictionary.save(tmp_path / "ruler.safetensors")
    for ruler in (first.dictionary, tmp_path / "ruler.safetensors"):
        again = dispersion_of(*read, TEXTS[1:], dictionary=ruler, estimator="paper")
        torch.testing.assert_close(again.values[0], first.values[1], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("texts", "options", "error", "sentence"),
    [
        (TEXTS[0], {}, DataError, r"give a list of texts, such as \[text\]"),
        ([], {}, DataError, "give at least one text"),
        ([TEXTS[0], ""], {}, DataError, r"texts\[1\] has \d tokens"),
        (TEXTS, {"site": "layer_99_out"}, ConfigError, "layer_99_out"),
        (TEXTS, {"estimator": "rubust"}, ConfigError, "rubust"),
        (TEXTS, {"dictionary": KoopmanDictionary(torch.ones(8, 4))}, DataError, "width 8"),
        (TEXTS[:1], {"num_observables": 500}, DataError, "500"),
    ],
)
def test_what_does_not_fit_is_one_sentence(texts, options, error, sentence, read: tuple[Any, Any]):
    with pytest.raises(error, match=sentence):
        dispersion_of(*read, texts, **({"fit_steps": 0} | options))
