"""From a Hugging Face model and texts to their dispersion (DSD) and the spectrum of one of them.

    python examples/dispersion_of_text.py
    python examples/dispersion_of_text.py --model Qwen/Qwen2.5-0.5B --file my.txt

Without options: the embedded policy reads eight texts of countdown, four that search and four that repeat themselves.
A file holds one text a line. A dictionary of 12 observables is fitted on the texts, 100 steps, seed 0.

Expect: a DSD between 0.067 and 0.089 for the searches and between 0.047 and 0.059 for the repetitions; of the first
text, "eigenvalue 0.999+0.000j, modulus 0.999, residual 0.058" (7 s of one CPU core).

docs/guides/spectrum.md says what the numbers mean, and how to tell a real mode from an artefact.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from relax_rl import dispersion_of
from relax_rl.koopman import koopman_eigenvalues
from relax_rl.training.models import model_location


def example_texts() -> list[str]:
    """Four searches through expressions, and four repetitions of one line, of some 70 tokens each."""
    searches, circles = [], []
    for start in (3, 5, 7, 9):
        tries = [f"{start + k}-{k}={start}*{k}={start * k} no" for k in range(1, 9)]
        searches.append(f"{start} 8 2>50:" + "".join(tries))
        circles.append(f"{start} 8 2>50:" + f"{start}-2={start - 2}*8={8 * start - 16} no" * 8)
    return [*searches, *circles]


def main() -> None:
    parser = argparse.ArgumentParser(description="Dispersion and spectrum of texts.")
    parser.add_argument("--model", default="tiny", help="a name on the Hugging Face Hub, or a folder")
    parser.add_argument("--file", type=Path, help="texts, one a line")
    words = parser.parse_args()
    place = model_location(words.model)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    texts = example_texts() if words.file is None else words.file.read_text("utf-8").splitlines()

    found = dispersion_of(model, tokenizer, texts, num_observables=12, fit_steps=100)
    for text, value, is_defined in zip(texts, found.values.tolist(), found.is_defined.tolist(), strict=True):
        print(f"DSD {value:.4f}" if is_defined else "too short ", text[:48])

    # The dictionary lifts the states (T, H) of a text to observables (T, F); their dynamics have a spectrum.
    spectrum = koopman_eigenvalues(found.dictionary(found.states[0]))
    print(f"\nThe first text: {len(spectrum.eigenvalues)} modes; a small residual says that a mode is real.")
    for eigenvalue, residual in list(zip(spectrum.eigenvalues.tolist(), spectrum.residuals.tolist(), strict=True))[:4]:
        print(f"eigenvalue {eigenvalue:.3f}, modulus {abs(eigenvalue):.3f}, residual {residual:.3f}")


if __name__ == "__main__":
    main()
