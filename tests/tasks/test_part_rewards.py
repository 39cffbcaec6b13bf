"""A method that takes rewards of 0 and 1 alone is refused before the run where training is known to pay others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.objectives import RunLimits, build_objective
from relax_rl.objectives.batch import RolloutBatch
from relax_rl.objectives.inputs import MODES
from relax_rl.rewards.callables import CallableVerifier
from relax_rl.rewards.functions import RewardFunction, Rewards
from relax_rl.tasks.base import BaseTask
from relax_rl.tasks.gym import ReasoningGymTask
from relax_rl.tasks.maze import MazeTask
from relax_rl.tasks.part_rewards import require_whole_rewards

PLAIN, DECEPTIVE = MazeTask(), MazeTask(deceptive=True)
OWN = CallableVerifier(lambda completions, answers: [1.0 for _ in completions], name="own")
FUNCTION = RewardFunction(lambda completions, **_: [1.0 for _ in completions], "told")
WHOLE = ("f_grpo", "coverage", "latent_coverage", "maxrl", "mode_max_rl", "pass_at_k", "pkpo", "w_reinforce")


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "latent_coverage"])
def test_what_a_method_says_of_parts_is_what_it_does(name: str) -> None:
    advantage = build_objective(name).advantage
    nothing = torch.zeros(1, 8, 1)
    rewards = torch.tensor([[1.0, 0.1, 0, 0, 0, 0, 0, 0]])
    modes = torch.tensor([[0, 1, *[-1] * 6]])
    batch = RolloutBatch(nothing, nothing, nothing == 0, rewards, extras={MODES: modes})
    assert not advantage.takes_parts
    with pytest.raises(DataError, match="takes rewards of 0 and 1"):
        advantage(batch)


def test_the_methods_that_take_no_parts() -> None:
    limits = RunLimits(max_completion_length=96, group_size=8, updates=8)
    assert not any(build_objective(name, limits).advantage.takes_parts for name in WHOLE)
    assert build_objective("grpo").advantage.takes_parts
    assert build_objective("tailrl", match_rms=True).advantage.takes_parts
    assert not build_objective("maxrl", match_rms=True).advantage.takes_parts


@pytest.mark.parametrize(
    ("task", "rewards", "num_graders", "words"),
    [
        (DECEPTIVE, Rewards(DECEPTIVE.verifier), 1, "the task 'maze' also pays between 0 and 1"),
        (PLAIN, Rewards(PLAIN.verifier, (FUNCTION,)), 1, "pays the weighted sum of 2 graders"),
        (PLAIN, Rewards(PLAIN.verifier), 3, "pays the weighted sum of 3 graders"),
        (ReasoningGymTask("chain_sum", partial_credit=True), None, 1, "also pays between 0 and 1"),
    ],
)
def test_what_pays_otherwise_is_named(task: BaseTask, rewards: Rewards | None, num_graders: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        require_whole_rewards("maxrl", task, rewards or Rewards(task.verifier), num_graders)


def test_one_grader_is_not_refused() -> None:
    require_whole_rewards("maxrl", PLAIN, Rewards(PLAIN.verifier), 1)
    require_whole_rewards("maxrl", DECEPTIVE, Rewards(OWN), 1)
    require_whole_rewards("maxrl", PLAIN, Rewards(None, (FUNCTION,)), 1)


def test_the_command_refuses_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "countdown", "--task", "maze", "--task.deceptive", "true", "--objective.name", "maxrl"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "takes rewards of 0 and 1, but the task 'maze' also pays between 0 and 1" in error
    assert not (tmp_path / "run").exists()
