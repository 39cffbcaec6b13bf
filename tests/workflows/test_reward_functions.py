"""Reward functions in TRL's signature, named on the command line: columns, weights, coroutines, timeouts and faults."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards import CallableVerifier
from relax_rl.rewards.functions import configured_rewards, takes_columns
from relax_rl.training.trl.reward_functions import own_reward, try_rewards
from relax_rl.workflows.train import prepare, train
from support.comparisons import SMALL

pytestmark = pytest.mark.slow

MODULE = '''
import asyncio
import json
import time

CALLS = {"n": 0}

def seen(prompts, completions, completion_ids, data_source, extra_info, answer, trainer_state, log_metric, **kwargs):
    with open("seen.jsonl", "a") as file:
        row = [data_source[0], extra_info[0]["index"], answer[0], trainer_state.global_step, len(prompts)]
        file.write(json.dumps(row) + "\\\\n")
    return [float(len(text) % 2) if index % 2 else None for index, text in enumerate(completions)]

async def remote(completions, **kwargs):
    await asyncio.sleep(0)
    return [0.25] * len(completions)

async def stuck(completions, **kwargs):
    await asyncio.sleep(60)

def waits(completions, **kwargs):
    time.sleep(3)
    return [1.0] * len(completions)

def later(fault):
    """Sound when it is tried, and faulty in the rollouts."""
    def function(completions, trainer_state, **kwargs):
        CALLS["n"] += 1
        return [0.0, 1.0] if CALLS["n"] == 1 else fault(len(completions))
    return function

raises = later(lambda count: [1 / 0])
short = later(lambda count: [1.0])
nans = later(lambda count: [float("nan")] + [1.0] * (count - 1))
words = later(lambda count: ["good"] * count)
silent = later(lambda count: [None] * count)
'''

ROW = {"data_source": "made", "reward_model": {"ground_truth": "14"}}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of this test alone, and a file of data, in the current folder."""
    name = f"own_{abs(hash(request.node.name))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path(f"{name}.py").write_text(MODULE.replace("\\\\n", "\\n"))
    rows = [ROW | {"prompt": f"11 {n} 3>14:", "extra_info": {"index": n}} for n in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def settings(*verifiers: Any) -> list[str]:
    given = [{"name": "task"}, *verifiers] if len(verifiers) != 1 else list(verifiers)
    words = ["--task", "data", "--task.path", "rows.jsonl", "--train-split", "all", "--verifier", json.dumps(given)]
    plain = ["--evaluation.enabled", "false", "--objective", "grpo", "--monitor", "false"]
    return [*SMALL, *plain, *words, "--output", "run"]


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_columns_state_and_weights_reach_several_functions(own: str) -> None:
    given = settings({"name": f"{own}:seen", "weight": 2.0}, {"name": f"{own}:remote", "weight": 4.0, "timeout": 30})
    result = train(overrides=given)
    rows = lines_of(Path("seen.jsonl"))
    assert rows[0] == ["made", 0, "14", 0, 2]
    assert {row[0] for row in rows} == {"made"}
    assert rows[-1][3] == 1
    completions = lines_of(result.output / "completions/step_000001.jsonl")
    assert set(completions[0]["scores"]) == {"math", "seen", "remote"}
    for row in completions:
        scores = row["scores"]
        assert row["reward"] == pytest.approx(scores["math"] + 2 * (scores["seen"] or 0.0) + 4 * scores["remote"])
    assert None in [row["scores"]["seen"] for row in completions]


FAULTS = {
    "raises": "raised ZeroDivisionError: division by zero in line",
    "short": "returned 1 values for",
    "nans": "returned NaN for 1 of",
    "words": "returned 'good', which is neither a number nor None",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_rollouts_is_one_sentence_and_its_rollout_is_kept(
    own: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *settings({"name": f"{own}:{fault}"})]) == 2
    told = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("relax: error:"))
    assert re.search(rf"The reward function '{fault}' \({own}.py:\d+\) {re.escape(FAULTS[fault])}", told), told
    assert "the completions it was given are in run/completions/failed_000001-0.jsonl" in told
    kept = lines_of(Path("run/completions/failed_000001-0.jsonl"))
    assert kept
    assert kept[0].keys() >= {"update", "completion", "prompt", "answer", "data_source", "problem_id"}


def test_a_function_that_never_applies_is_named(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings({"name": f"{own}:silent"}, {"name": f"{own}:remote"})
    assert main(["train", *given]) == 0
    told = capsys.readouterr().err
    assert told.count("The reward function 'silent'") == 1
    assert re.search(r"'silent' \(.*\) returned None for all \d+ completions of the rollouts of update 1", told)


@pytest.mark.parametrize("name", ["stuck", "waits"])
def test_a_call_that_takes_too_long_ends_the_rehearsal(own: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.monotonic()
    assert main(["train", *settings({"name": f"{own}:{name}", "timeout": 0.2}), "--dry-run"]) == 2
    assert "did not return within 0.2 s; fix what it waits for, or give it a longer timeout" in capsys.readouterr().err
    assert time.monotonic() - before < 60
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        ({"name": "OWN:seen", "timeout": 0}, "The timeout of the reward function 'seen' is 0; give seconds above 0"),
        ({"name": "OWN:seen", "weight": "much"}, "The weight of the reward function 'seen' is 'much'; give a number"),
        ({"name": "OWN:seen", "patience": 3}, "The reward function 'OWN:seen' has no option 'patience'"),
    ],
)
def test_options_of_a_function(own: str, verifier: dict[str, Any], words: str) -> None:
    named = verifier | {"name": verifier["name"].replace("OWN", own)}
    with pytest.raises(ConfigError, match=words.replace("OWN", own)):
        prepare(overrides=settings(named))


def test_a_function_object_and_weights_in_two_places(own: str) -> None:
    def by_length(completions: Any, data_source: Any, **_: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    given = [*settings({"name": "task"})[:-4], "--output", "run"]
    run = prepare(overrides=given, verifier=by_length)  # pyright: ignore[reportArgumentType]
    assert run.trainer.reward_func_names == ["by_length"]
    assert run.settings.verifier == "by_length"
    with pytest.raises(ConfigError, match=r"leave trainer.reward_weights out"):
        prepare(overrides=[*settings({"name": f"{own}:remote"}), "--trainer.reward_weights", "[1.0]"])


def test_which_signature_is_whose(own: str) -> None:
    assert takes_columns(lambda completions, **_: [])
    assert takes_columns(lambda prompts, completions: [])
    assert takes_columns(lambda **_: [])
    assert not takes_columns(lambda completions, answers: [])
    assert not takes_columns(lambda completions, answers, **_: [])
    assert not takes_columns(lambda completions, gold: [])
    with pytest.raises(ConfigError, match="rewards training alone: name it with --verifier"):
        CallableVerifier(f"{own}:seen")
    with pytest.raises(ConfigError, match="is named twice"):
        configured_rewards(settings_of(f"{own}:remote"), CallableVerifier(lambda completions, answers: []))


def settings_of(name: str) -> Any:
    from relax_rl.config import VerifierConfig

    return [VerifierConfig(name=name), VerifierConfig(name=name)]


def test_coroutines_are_tried_too() -> None:
    async def broken(completions: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        return [1.0]

    with pytest.raises(DataError, match=r"'broken' \(.*\) returned 1 values for 2 completions"):
        try_rewards([own_reward(broken)], [{"prompt": "a"}, {"prompt": "b"}])
