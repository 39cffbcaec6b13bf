"""verl's engine with our objectives: the gradient of plain autograd, however groups are dealt out and cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.verl.environment import ABSENT, in_verl, verl_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.timeout(900),
    pytest.mark.skipif(verl_python() is None, reason=ABSENT),
]

METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"beta": 0.05},
    "kl_cov": {"k_ratio": 0.2, "coefficient": 1.0},
    # A quantile that falls between two of 16 completions: a tie with xi would turn on the last digit.
    "relax": {"alpha": 0.5, "beta": 0.05, "xi": "quantile:0.7", "dictionary": {"num_observables": 6, "steps": 3}},
}
WHOLE = {"packed": True, "micro": 4, "groups": "whole"}
SPLIT = {"packed": True, "micro": 4, "groups": "split"}
IN_PARTS = {"groups split over micro-batches": {**WHOLE, "micro": 2}}
ON_ONE = {
    "whole groups": WHOLE,
    **IN_PARTS,
    "padding rows": {**SPLIT, "micro": 2, "padding": True},
    "gradient checkpointing": {**SPLIT, "checkpointing": True},
    "LoRA": {**SPLIT, "lora": True},
    "micro-batches by tokens": {**WHOLE, "tokens": 120},
    "micro-batches by tokens, split": {**SPLIT, "tokens": 60},
    "fused kernels": {**WHOLE, "fused": True, "tied": True},
    "one of two updates": {**WHOLE, "mini_batch": True},
}
PADDED = {
    "padded": {**WHOLE, "packed": False},
    "padded and split": {**SPLIT, "packed": False, "micro": 2},
    "padded, gradient checkpointing": {**SPLIT, "packed": False, "checkpointing": True},
    "padded, LoRA": {**SPLIT, "packed": False, "lora": True},
    "padded, fused kernels": {**WHOLE, "packed": False, "fused": True, "tied": True},
}
OVER_RANKS = {"groups split over ranks": SPLIT, "groups brought together": {**SPLIT, "groups": "brought"}}
MORE = {
    "relax, saved and restored": {"method": "relax", "options": METHODS["relax"], **WHOLE, "saves": True},
    "entropy bonus": {"method": "entropy_bonus", "options": {"coefficient": 0.1}, **SPLIT, "micro": 2},
    "refused: fused kernels and a head of its own": {"method": "grpo", "options": {}, **WHOLE, "fused": True},
    "a reward of the states themselves": {"method": "sr_grpo", "options": {}, **SPLIT, "micro": 2},
}


def by_every_method(layouts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        f"{method}, {name}": {"method": method, "options": options, **layout}
        for method, options in METHODS.items()
        for name, layout in layouts.items()
    }


def in_sequences(cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each sequence on two processes (Ulysses)."""
    return {name: {**case, "parts": 2} for name, case in cases.items()}


CASES = {
    "one rank": (1, by_every_method(ON_ONE | PADDED) | MORE),
    "two ranks": (2, by_every_method(ON_ONE | PADDED | OVER_RANKS) | MORE),
    "two ranks of one sequence": (2, in_sequences(by_every_method(ON_ONE) | MORE)),
    "four ranks, two of each sequence": (4, in_sequences(by_every_method(IN_PARTS | OVER_RANKS))),
}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every case in one process group: most of the time goes into starting it."""
    folder, (ranks, cases) = tmp_path_factory.mktemp("verl"), CASES[request.param]
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).parents[1] / "support/verl/engine_ranks.py"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), str(script)]
    done = in_verl([*torchrun, str(folder), str(folder / "cases.json")], timeout=800)
    written = folder / "results.json"
    assert written.exists(), done.stdout[-4000:]
    return json.loads(written.read_text())


def test_every_layout_has_the_gradient_of_plain_autograd(results):
    learned = {name: found for name, found in results.items() if not name.startswith("refused")}
    assert {name: found["error"] for name, found in learned.items() if "error" in found} == {}
    for name, found in learned.items():
        assert found["difference"] < 2e-6, (name, found)
        assert found["loss"] == pytest.approx(found["wanted"], rel=1e-5, abs=1e-6), name


def test_all_ranks_have_the_dictionary_of_one_process_and_all_rows(results):
    latent = {name: found for name, found in results.items() if name.startswith("relax")}
    for name, found in latent.items():
        assert len({json.dumps(digest) for digest in found["digests"]}) == 1, name
        assert found["metrics"]["relax/latent/dsd_defined"] == 1.0, name
        # Rounding of the forward, through the steps of the fit.
        assert found["calibration"]["dictionary"] < 1e-4, name
        assert found["calibration"]["xi"] < 1e-4, name


def test_what_verl_cannot_do_is_refused(results):
    for name in {"refused: fused kernels and a head of its own"} & set(results):
        assert results[name]["error"].startswith("ConfigError: verl's fused kernels read the weight of the head")


def test_it_comes_back_with_a_checkpoint(results):
    for name in {"relax, saved and restored"} & set(results):
        assert results[name]["restored"] == [True, True]
        assert results[name]["updates"] == 1
