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


def cases(ranks: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for method, options in METHODS.items():
        layouts = {
            "whole groups": WHOLE,
            "padded": {**WHOLE, "packed": False},
            "groups split over micro-batches": {**WHOLE, "micro": 2},
            "padded and split": {**SPLIT, "packed": False, "micro": 2},
            "padding rows": {**SPLIT, "micro": 2, "padding": True},
        }
        if ranks > 1:
            layouts |= {"groups split over ranks": SPLIT, "groups brought together": {**SPLIT, "groups": "brought"}}
        found |= {f"{method}, {name}": {"method": method, "options": options, **case} for name, case in layouts.items()}
    relax = {"method": "relax", "options": METHODS["relax"]}
    return found | {
        "relax, gradient checkpointing": {**relax, **SPLIT, "checkpointing": True},
        "relax, micro-batches by tokens": {**relax, **WHOLE, "tokens": 120},
        "relax, micro-batches by tokens, split": {**relax, **SPLIT, "tokens": 60},
        "relax, LoRA": {**relax, **SPLIT, "lora": True},
        "relax, saved and restored": {**relax, **WHOLE, "saves": True},
        "entropy bonus": {"method": "entropy_bonus", "options": {"coefficient": 0.1}, **SPLIT, "micro": 2},
        "a reward of the states themselves": {"method": "sr_grpo", "options": {}, **SPLIT, "micro": 2},
    }


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every case in one process group: most of the time goes into starting it."""
    folder, ranks = tmp_path_factory.mktemp("verl"), request.param
    (folder / "cases.json").write_text(json.dumps(cases(ranks)))
    script = Path(__file__).parents[1] / "support/verl/engine_ranks.py"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), str(script)]
    done = in_verl([*torchrun, str(folder), str(folder / "cases.json")], timeout=800)
    written = folder / "results.json"
    assert written.exists(), done.stdout[-4000:]
    return json.loads(written.read_text())


def test_every_layout_has_the_gradient_of_plain_autograd(results):
    assert {name: found["error"] for name, found in results.items() if "error" in found} == {}
    for name, found in results.items():
        assert found["difference"] < 2e-6, (name, found)
        assert found["loss"] == pytest.approx(found["wanted"], rel=1e-5, abs=1e-6), name


def test_all_ranks_have_one_dictionary_and_it_comes_back_with_a_checkpoint(results):
    latent = [found for name, found in results.items() if name.startswith("relax")]
    for found in latent:
        assert len({json.dumps(digest) for digest in found["digests"]}) == 1
        assert found["metrics"]["relax/latent/dsd_defined"] == 1.0
    assert results["relax, saved and restored"]["restored"] == [True, True]
