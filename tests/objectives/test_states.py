"""The state in a checkpoint's ``objective.json`` keeps the keys that checkpoints of commit 1c15099 have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relax_rl.objectives import METHODS, build_objective

OF_1C15099: dict[str, dict[str, Any]] = {
    "dcpo": {"advantage": {"memory": {"1334630821253377337": [3, 0.3333333333333333, 0.5004957859423311]}}},
    "entrocraft": {"token_weights": {"progress": 0.5}},
    "rank_shaping": {"token_weights": {"baseline": [27.18186347596904, 7.359438451111728, 1.117359607799767]}},
    "adaptive_entropy_bonus": {"regularizers.1": {"coefficient": 0.0, "last_entropy": 0.27981988105131556}},
    "scheduled_entropy_bonus": {"regularizers.1": {"progress": 0.5}},
    "evidence.latent_signals.signal_methods:spectral_novelty": {"signal": {"memory": [[0.5, 0.1, 0.5, -0.1]]}},
}
"""What that commit wrote under "components"; for every other method an empty table."""
SINCE: dict[str, dict[str, Any]] = {
    "reinforce_pp": {"advantage": {"mean": 0.25, "variance": 0.1875}},
    "repo_r": {"token_weights": {"zeta": 0.02, "first_entropy": 0.3}},
    "outcome_exploration": {"advantage": {"past": {"7": {"-1": 2, "12": 1}}, "present": {"7": {"12": 4}}}},
    "elliptical_counts": {"advantage": {"sums": {"7": [[1.5, 0.0], [0.0, 0.5]]}}},
    "recoverability_floor": {"regularizers.1": {"weight": 0.25}},
    "latent_anchor": {"regularizers.1": {"weight": 0.25}},
}
"""The same of methods that came later."""


@pytest.mark.parametrize("method", [*METHODS, *(name for name in OF_1C15099 if ":" in name)])
def test_a_state_of_1c15099_is_restored_and_written_alike(method):
    written = (OF_1C15099 | SINCE).get(method, {})
    restored = build_objective(method).restored(json.loads(json.dumps(written)))
    assert json.loads(json.dumps(restored.state())) == written
    assert set(build_objective(method).state()) == set(written)


def test_another_method_s_state_is_refused():
    with pytest.raises(KeyError):
        build_objective("entrocraft").restored(OF_1C15099["dcpo"])
