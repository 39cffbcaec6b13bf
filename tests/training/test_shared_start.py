"""The evaluation before training, measured once for all runs from one start: the same bytes, and no other one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.config import load_config
from relax_rl.errors import ConfigError, RunError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training import measurement
from relax_rl.training.models import load_model
from relax_rl.training.notices import Notices

pytestmark = pytest.mark.slow

FILES = ("before.json", "dictionary.safetensors")


class Start:
    """Evaluates the embedded policy before trainings, which count how often they sample."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measurement, "_NUM_PROMPTS", 8)
        monkeypatch.setattr(measurement, "_NUM_SAMPLES", 4)
        # Fitting takes longer than all the rest, and is not what is looked at.
        weight = torch.randn((128, 8), generator=torch.Generator().manual_seed(0))
        monkeypatch.setattr(measurement.DictionarySettings, "fit", lambda *_: KoopmanDictionary(weight))
        self.folder, self.sampled, self.said = folder, 0, list[str]()
        evaluate = measurement.Evaluation.run

        def counted(*given: Any, **named: Any) -> Any:
            self.sampled += 1
            return evaluate(*given, **named)

        monkeypatch.setattr(measurement.Evaluation, "run", counted)
        self.model, self.tokenizer = load_model("tiny")

    def before(self, name: str, method: str = "grpo", *words: str, **changes: Any) -> dict[str, bytes]:
        settings = ["--evaluation.num_problems=4", "--evaluation.num_samples=2", *words]
        config, run = load_config("countdown", settings), RunDirectory.new(self.folder / name)
        run.start(config)
        notices = Notices()
        notices.listen(self.said.append)
        given = {"max_completion_length": 32, "num_observables": 8, "shared": self.folder / "before"} | changes
        evaluation = measurement.PolicyEvaluation(config.evaluation, CountdownTask(), run, say=notices, **given)
        evaluation.before(self.model, self.tokenizer, build_objective(method))
        return {file: (run.evaluations / file).read_bytes() for file in FILES}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return Start(tmp_path, monkeypatch)


def test_the_methods_of_a_comparison_share_it_byte_for_byte(start: Start) -> None:
    alone = start.before("alone", shared=None)
    first = start.before("first")
    assert start.sampled == 2
    assert start.said == []
    second = start.before("second", "dr_grpo")
    assert start.sampled == 2
    assert second == first
    # The order of the dictionary's metadata is not the same in two files.
    assert first["before.json"] == alone["before.json"]
    assert [sentence.partition(" in ")[0] for sentence in start.said] == ["The evaluation before training is the one"]
    assert [path.name.startswith(".") for path in (start.folder / "before").iterdir()] == [False]


def test_whatever_moves_a_byte_is_measured_again(start: Start) -> None:
    start.before("first")
    start.before("temperature", "grpo", "--evaluation.temperature=0.9")
    start.before("problems", "grpo", "--evaluation.num_problems=3")
    start.before("length", max_completion_length=31)
    with torch.no_grad():
        weight = next(iter(start.model.parameters()))
        weight.view(-1)[1] = torch.nextafter(weight.view(-1)[1], torch.tensor(9.0))
    start.before("weights")
    assert start.sampled == len(list((start.folder / "before").iterdir())) == 5


def test_a_folder_that_cannot_be_written_is_one_sentence(start: Start) -> None:
    (start.folder / "before").write_text("a file")
    with pytest.raises(RunError, match="cannot be kept for the other runs"):
        start.before("first")


def test_weights_in_parts_do_not_tell_a_start(start: Start) -> None:
    with pytest.raises(ConfigError, match="each process here holds a part"):
        start.before("first", is_sharded=True)
