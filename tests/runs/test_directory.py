"""The run directory: who may start in it, what survives a kill, and that nothing is lost on a default."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from relax_rl.config import TrainConfig, load_config
from relax_rl.errors import ConfigError, RunError
from relax_rl.runs import RunDirectory, differing_keys


@pytest.fixture
def config() -> TrainConfig:
    return load_config("countdown")


@pytest.fixture
def run(tmp_path: Path, config: TrainConfig) -> RunDirectory:
    directory = RunDirectory.new(tmp_path / "runs" / "one")
    directory.start(config)
    return directory


def add_checkpoint(run: RunDirectory, step: int, state: str | None = None) -> Path:
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}) if state is None else state)
    return folder


def files_in(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def as_once_written(run: RunDirectory) -> None:
    """The settings of a run from the time when ``output`` was called ``run``."""
    settings = json.loads(run.config_path.read_text())
    settings["run"] = settings.pop("output")
    run.config_path.write_text(json.dumps(settings))


class TestFormerSettings:
    def test_a_run_is_read_resumed_and_a_source(self, run: RunDirectory, config: TrainConfig) -> None:
        as_once_written(run)
        add_checkpoint(run, 50)
        assert run.read_config() == config
        assert run.read_config().digest == config.digest
        resumed = RunDirectory.resume(run.path, load_config(config, {"output": str(run.path)}))
        assert load_config(run.path, ["--output", "again"]).output == "again"
        resumed.start(config)
        assert "run" not in json.loads(run.config_path.read_text())

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ({"name": "dr_grpo"}, {"name": "dr_grpo", "max_completion_length": 3000}),
            ({"name": "dr_grpo", "max_tokens": 50}, {"name": "dr_grpo", "max_completion_length": 50}),
            ({"name": "dapo", "max_tokens": 50}, {"name": "dapo", "max_completion_length": 50}),
            ({"name": "erc", "dual_bound": 5.0}, {"name": "erc", "dual_clip": 5.0}),
            ({"name": "rank_shaping", "max_tokens": 50}, {"name": "rank_shaping", "max_tokens": 50}),
        ],
    )
    def test_a_method_keeps_its_settings_under_their_present_names(
        self, run: RunDirectory, written: dict[str, object], read: dict[str, object]
    ) -> None:
        as_once_written(run)
        settings = json.loads(run.config_path.read_text())
        run.config_path.write_text(json.dumps(settings | {"objective": written}))
        assert run.read_config().objective.model_dump() == read

    def test_what_a_person_writes_is_not_migrated(self, run: RunDirectory, tmp_path: Path) -> None:
        as_once_written(run)
        settings = run.config_path.read_text()
        for name in ("own.json", "own/config.json"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(settings if name == "own.json" else '{"run": "x"}')
            with pytest.raises(ConfigError, match="'run' is now 'output'"):
                load_config(path)


class TestStarting:
    def test_looking_writes_nothing(self, tmp_path: Path) -> None:
        RunDirectory.new(tmp_path / "runs" / "one")
        assert list(tmp_path.iterdir()) == []

    def test_starting_writes_the_resolved_config(self, run: RunDirectory, config: TrainConfig) -> None:
        assert run.read_config() == config
        assert run.is_run()
        assert run.checkpoints.is_dir()

    def test_folders_that_are_made_meanwhile_are_taken_back_when_empty(self, tmp_path: Path) -> None:
        run = RunDirectory.new(tmp_path / "deep" / "run")
        with run.left_as_it_is():
            run.checkpoints.mkdir(parents=True)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ZeroDivisionError), run.left_as_it_is():  # noqa: PT012
            run.checkpoints.mkdir(parents=True)
            (run.path / "kept").write_text("")
            raise ZeroDivisionError
        assert [path.name for path in run.path.iterdir()] == ["kept"]

    def test_an_empty_folder_will_do(self, tmp_path: Path, config: TrainConfig) -> None:
        RunDirectory.new(tmp_path).start(config)
        assert RunDirectory.open(tmp_path).read_config() == config

    def test_an_existing_run_is_refused_with_both_ways_out(self, run: RunDirectory) -> None:
        before = files_in(run.path)
        with pytest.raises(RunError, match=r"--resume.*--overwrite"):
            RunDirectory.new(run.path)
        assert files_in(run.path) == before

    def test_overwriting_removes_the_run_only_at_the_start(self, run: RunDirectory, config: TrainConfig) -> None:
        run.append_metrics(1, {"reward": 0.5})
        replacement = RunDirectory.new(run.path, overwrite=True)
        assert run.read_metrics() == [{"step": 1, "reward": 0.5}]
        replacement.start(config)
        assert run.read_metrics() == []

    @pytest.mark.parametrize("content", ["notes", '{"architectures": ["LlamaForCausalLM"]}', '["task", "objective"]'])
    def test_what_is_no_run_is_never_deleted(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(RunError, match="not empty and not a run"):
            RunDirectory.new(tmp_path, overwrite=True)
        assert (tmp_path / "config.json").read_text() == content

    def test_a_folder_that_filled_up_since_the_look_is_not_deleted(self, tmp_path: Path, config: TrainConfig) -> None:
        late = RunDirectory.new(tmp_path / "one", overwrite=True)
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "thesis.tex").write_text("precious")
        late.start(config)
        assert (tmp_path / "one" / "thesis.tex").read_text() == "precious"

    def test_a_link_is_not_overwritten(self, run: RunDirectory) -> None:
        with pytest.raises(RunError, match="is a link"):
            RunDirectory.new(run.path.parent / "latest", overwrite=True)

    @pytest.mark.parametrize("place", ["file", "file/below/it"])
    def test_a_file_in_the_way(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="is a file; choose another with --output DIR"):
            RunDirectory.new(tmp_path / place)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(RunError, match="no permission in"):
            RunDirectory.new(tmp_path / "closed" / "one")

    def test_permission_is_asked_of_the_nearest_folder_there_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        monkeypatch.setattr(os, "access", lambda path, mode: asked.append(Path(path)))
        with pytest.raises(RunError, match="no permission in"):
            RunDirectory.new(tmp_path / "a" / "b")
        assert asked == [tmp_path]

    def test_a_disk_that_fails_at_the_start(
        self, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = RunDirectory.new(tmp_path / "one")
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(RunError, match="No space left"):
            run.start(config)
        assert files_in(tmp_path) == {}

    def test_other_processes_neither_look_nor_write(
        self, run: RunDirectory, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = files_in(run.path)
        monkeypatch.setenv("RANK", "1")
        RunDirectory.new(run.path, overwrite=True).start(load_config(config, ["--seed", "9"]))
        assert files_in(run.path) == before


class TestLatest:
    def test_it_follows_the_last_start(self, run: RunDirectory, config: TrainConfig) -> None:
        link = run.path.parent / "latest"
        assert link.resolve() == run.path.resolve()
        RunDirectory.new(run.path.parent / "two").start(config)
        assert os.readlink(link) == "two"
        assert sorted(p.name for p in run.path.parent.iterdir()) == ["latest", "one", "two"]

    def test_a_real_folder_of_that_name_stays(self, tmp_path: Path, config: TrainConfig) -> None:
        (tmp_path / "runs" / "latest").mkdir(parents=True)
        RunDirectory.new(tmp_path / "runs" / "one").start(config)
        assert not (tmp_path / "runs" / "latest").is_symlink()

    def test_other_folders_get_no_link(self, tmp_path: Path, config: TrainConfig) -> None:
        RunDirectory.new(tmp_path / "elsewhere").start(config)
        assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]


class TestResuming:
    def test_the_same_settings(self, run: RunDirectory, config: TrainConfig) -> None:
        add_checkpoint(run, 50)
        assert RunDirectory.resume(run.path, config).path == run.path

    def test_through_the_link(self, run: RunDirectory) -> None:
        add_checkpoint(run, 50)
        assert RunDirectory.resume(run.path.parent / "latest").path == run.path

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="there is no run in"):
            RunDirectory.resume(tmp_path / "none")
        assert list(tmp_path.iterdir()) == []

    def test_no_complete_checkpoint(self, run: RunDirectory) -> None:
        add_checkpoint(run, 50, state="{")
        with pytest.raises(RunError, match="no complete checkpoint"):
            RunDirectory.resume(run.path)

    def test_differing_settings_are_named_with_both_values(self, run: RunDirectory, config: TrainConfig) -> None:
        add_checkpoint(run, 50)
        words = ["--trainer.learning_rate", "0.5", "--objective.alpha", "0.3", "--dictionary.num_observables", "8"]
        with pytest.raises(RunError) as caught:
            RunDirectory.resume(run.path, load_config(config, words))
        assert "trainer.learning_rate was 0.0002 and is now 0.5" in str(caught.value)
        assert "objective.alpha was None and is now 0.3" in str(caught.value)
        assert "dictionary.num_observables was 16 and is now 8" in str(caught.value)

    def test_a_number_written_differently_is_no_difference(self, run: RunDirectory, config: TrainConfig) -> None:
        assert (
            differing_keys(load_config(config, ["--objective.beta=1"]), load_config(config, ["--objective.beta=1.0"]))
            == []
        )

    def test_a_constant_schedule_may_be_prolonged(self, run: RunDirectory, config: TrainConfig) -> None:
        add_checkpoint(run, 50)
        longer = load_config(
            config, ["--trainer.max_steps", "400", "--output", "moved", "--trainer.report_to", "wandb"]
        )
        RunDirectory.resume(run.path, longer).start(longer)
        assert run.read_config().trainer.max_steps == 400

    def test_a_falling_schedule_may_not(self, tmp_path: Path, config: TrainConfig) -> None:
        falling = load_config(config, ["--trainer.lr_scheduler_type", "linear"])
        run = RunDirectory.new(tmp_path / "one")
        run.start(falling)
        add_checkpoint(run, 50)
        with pytest.raises(RunError, match=r"trainer\.max_steps was 100 and is now 400"):
            RunDirectory.resume(run.path, load_config(falling, ["--trainer.max_steps", "400"]))

    def test_settings_of_another_version_are_named(self, run: RunDirectory) -> None:
        settings = json.loads(run.config_path.read_text()) | {"retired": 1}
        run.config_path.write_text(json.dumps(settings))
        with pytest.raises(RunError, match=r"cannot be read: unknown key 'retired'"):
            RunDirectory.resume(run.path)


class TestCheckpoints:
    def test_the_last_by_number_not_by_name(self, run: RunDirectory) -> None:
        add_checkpoint(run, 50)
        last = add_checkpoint(run, 100)
        assert run.latest_checkpoint() == last

    @pytest.mark.parametrize("state", ["", '{"global_step": 10', "[]", "{}"])
    def test_a_half_written_one_does_not_count(self, run: RunDirectory, state: str) -> None:
        whole = add_checkpoint(run, 50)
        add_checkpoint(run, 100, state=state)
        (run.checkpoints / "checkpoint-150").mkdir()
        (run.checkpoints / "checkpoint-best").mkdir()
        assert run.latest_checkpoint() == whole

    def test_further_files_may_be_required(self, run: RunDirectory) -> None:
        whole = add_checkpoint(run, 50)
        (whole / "dictionary.safetensors").write_bytes(b"")
        add_checkpoint(run, 100)
        assert run.latest_checkpoint(also=("dictionary.safetensors",)) == whole

    def test_none(self, run: RunDirectory) -> None:
        assert run.latest_checkpoint() is None


class TestMetrics:
    def test_rows_in_order(self, run: RunDirectory) -> None:
        run.append_metrics(1, {"reward": 0.25, "latent/dsd": np.float32(0.5), "kl": np.float64(2.0)})
        run.append_metrics(2, {"reward": 1, "note": "Grüße", "values": np.arange(2)})
        assert run.read_metrics() == [
            {"step": 1, "reward": 0.25, "latent/dsd": 0.5, "kl": 2.0},
            {"step": 2, "reward": 1, "note": "Grüße", "values": [0, 1]},
        ]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.array(np.inf)])
    def test_what_is_not_finite_is_null(self, run: RunDirectory, value: object) -> None:
        run.append_metrics(1, {"kl": value})
        assert run.metrics_path.read_text() == '{"step": 1, "kl": null}\n'

    def test_what_is_no_number_is_an_error_and_leaves_no_row(self, run: RunDirectory) -> None:
        with pytest.raises(TypeError, match="object cannot be written"):
            run.append_metrics(1, {"reward": object()})
        assert not run.metrics_path.exists()

    def test_a_half_written_last_row_is_skipped_and_cut_off(self, run: RunDirectory) -> None:
        run.append_metrics(1, {"reward": 0.5})
        with run.metrics_path.open("ab") as file:
            file.write('{"step": 2, "note": "é'.encode()[:-1])  # cut within a character
        assert [row["step"] for row in run.read_metrics()] == [1]
        run.truncate_metrics(1)
        run.append_metrics(2, {"reward": 0.75})
        assert run.read_metrics() == [{"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.75}]

    def test_a_broken_row_in_the_middle_is_an_error_with_its_number(self, run: RunDirectory) -> None:
        run.metrics_path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
        with pytest.raises(RunError, match="row 2 of"):
            run.read_metrics()

    def test_rewinding_drops_what_came_after(self, run: RunDirectory) -> None:
        for step in (1, 2, 3):
            run.append_metrics(step, {"reward": step / 4})
            run.write_completions(step, [{"completion": str(step)}])
        run.rewind(2)
        assert [row["step"] for row in run.read_metrics()] == [1, 2]
        assert run.completion_steps() == [1, 2]

    def test_a_reader_never_sees_half_a_file_while_it_is_rewritten(self, run: RunDirectory) -> None:
        for step in range(200):
            run.append_metrics(step, {"reward": 0.5})
        stop = threading.Event()

        def rewrite() -> None:
            while not stop.is_set():
                run.truncate_metrics(1000)

        writer = threading.Thread(target=rewrite)
        writer.start()
        try:
            assert {len(run.read_metrics()) for _ in range(30)} == {200}
        finally:
            stop.set()
            writer.join()


class TestCompletionsAndEvaluations:
    def test_rows_come_back(self, run: RunDirectory) -> None:
        rows = [{"prompt": "1 2>3:", "completion": "1+2\n", "score": 1.0, "advantage": math.nan}, {"score": None}]
        path = run.write_completions(3, rows)
        assert path.name == "step_000003.jsonl"
        assert run.read_completions(3) == [{**rows[0], "advantage": None}, {"score": None}]
        assert run.read_completions(4) == []

    def test_two_rollouts_of_a_step_stand_together(self, run: RunDirectory) -> None:
        run.write_completions(1, [{"n": 1}])
        run.write_completions(1, [{"n": 2}])
        assert run.read_completions(1) == [{"n": 1}, {"n": 2}]

    def test_a_resumed_run_replaces_a_step(self, run: RunDirectory) -> None:
        run.write_completions(1, [{"n": 1}])
        RunDirectory(run.path).write_completions(1, [{"n": 2}])
        assert run.read_completions(1) == [{"n": 2}]

    def test_evaluations_by_name(self, run: RunDirectory) -> None:
        assert run.read_evaluations() == {}
        run.write_evaluation("before", {"metrics": {"pass@16": {"value": np.float64(0.5), "low": math.nan}}})
        assert run.read_evaluations() == {"before": {"metrics": {"pass@16": {"value": 0.5, "low": None}}}}

    def test_a_failed_write_leaves_the_old_file_and_no_debris(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.write_evaluation("before", {"a": 1})
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("pulled out")))
        with pytest.raises(OSError, match="pulled out"):
            run.write_evaluation("before", {"a": 2})
        assert run.read_evaluations() == {"before": {"a": 1}}
        assert [p.name for p in run.evaluations.iterdir()] == ["before.json"]
