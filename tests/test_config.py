"""Settings: where they come from, what is refused and in which words, and that what is written can be read back."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relax_rl.config import (
    DictionaryConfig,
    ObjectiveConfig,
    TaskConfig,
    TrainConfig,
    TrainerConfig,
    batch_arithmetic,
    load_config,
    shipped_configs,
)
from relax_rl.config.loading import read_settings
from relax_rl.errors import ConfigError


def error_of(*words: str, source: str | Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, words)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_loads(name: str) -> None:
    assert load_config(name) == load_config(name, [])


def test_the_countdown_config_fits_its_short_completions() -> None:
    config = load_config("countdown")
    assert (config.model, config.task.name, config.objective.name) == ("tiny", "countdown", "relax")
    assert config.dictionary.num_observables == 16
    assert config.trainer.max_completion_length == 96


def test_later_wins_over_the_file_and_over_earlier_words(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 1\n[trainer]\nmax_steps = 5\nlearning_rate = 3e-4\n")
    config = load_config(path, ["--trainer.max_steps", "6", "--seed=2", "--trainer.max_steps", "7"])
    assert (config.seed, config.trainer.max_steps, config.trainer.learning_rate) == (2, 7, 3e-4)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".toml", 'objective = "grpo"\n[trainer]\nlearning_rate = 2e-4\nmax_steps = 8\n'),
        (".yaml", "objective: grpo\ntrainer:\n  learning_rate: 2e-4\n  max_steps: 8\n"),
        (".yml", "objective: {name: grpo}\ntrainer: {learning_rate: .0002, max_steps: 8}\n"),
        (".json", '{"objective": "grpo", "trainer": {"learning_rate": 2e-4, "max_steps": 8}}'),
    ],
)
def test_the_same_settings_in_every_format(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"run{suffix}"
    path.write_text(text)
    expected = TrainConfig(
        objective=ObjectiveConfig(name="grpo"), trainer=TrainerConfig(learning_rate=2e-4, max_steps=8)
    )
    assert load_config(path) == expected


def test_an_empty_yaml_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert load_config(path) == TrainConfig()


class TestNamedTables:
    """A task and an objective: a bare name, or a name with its own options."""

    def test_a_bare_name_takes_options_from_overrides(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        path.write_text('objective = "relax"\ntask = "countdown"\n')
        config = load_config(path, ["--objective.alpha", "0.3", "--task.numbers", "[3, 4]"])
        assert config.objective == ObjectiveConfig(name="relax", options={"alpha": 0.3})
        assert config.task == TaskConfig(name="countdown", options={"numbers": [3, 4]})

    def test_repeating_the_name_keeps_the_options(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        path.write_text('[objective]\nname = "relax"\nalpha = 0.3\n')
        assert load_config(path, ["--objective", "relax"]).objective.options == {"alpha": 0.3}

    def test_the_default_name_counts_as_the_name(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        path.write_text("[objective]\nalpha = 0.3\n")
        assert load_config(path, ["--objective", "relax", "--objective.beta", "0"]).objective.options == {
            "alpha": 0.3,
            "beta": 0,
        }

    @pytest.mark.parametrize("words", [["--objective", "grpo"], ["--objective.name=grpo"]])
    def test_another_name_drops_the_options_of_the_former(self, tmp_path: Path, words: list[str]) -> None:
        path = tmp_path / "run.toml"
        path.write_text('[objective]\nname = "relax"\nalpha = 0.3\n')
        assert load_config(path, words).objective == ObjectiveConfig(name="grpo")

    @pytest.mark.parametrize("flip", [False, True])
    def test_options_given_with_the_new_name_stay_in_either_order(self, flip: bool) -> None:
        pairs = [["--objective", "kl_cov"], ["--objective.k_ratio", "2e-3"]]
        words = [word for pair in (pairs[::-1] if flip else pairs) for word in pair]
        base = TrainConfig(objective=ObjectiveConfig(options={"alpha": 0.3}))
        assert load_config(base, words).objective == ObjectiveConfig(name="kl_cov", options={"k_ratio": 2e-3})

    def test_options_merge_one_table_deep_and_more(self) -> None:
        base = load_config(None, {"task": {"name": "math", "columns": {"prompt": "q", "answer": "a"}}})
        config = load_config(base, ["--task.columns.answer", "gold"])
        assert config.task.options == {"columns": {"prompt": "q", "answer": "gold"}}

    def test_options_must_be_writable_as_json(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        path.write_text("[objective]\nsince = 2026-01-01\n")
        assert "cannot be written as JSON" in error_of(source=path)

    def test_infinity_is_no_setting(self) -> None:
        assert "cannot be written as JSON" in error_of("--objective.xi", "inf")


class TestWords:
    """What a word on the command line stands for."""

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            ("3", 3),
            ("-1", -1),
            ("2e-4", 2e-4),
            (".5", 0.5),
            ("1.", 1.0),
            ("true", True),
            ("False", False),
            ("null", None),
            ("none", "none"),
            ("[1, 2]", [1, 2]),
            ('{"a": 1}', {"a": 1}),
            ("{a = 1}", {"a": 1}),
            ('"3"', "3"),
            ("quantile:0.9", "quantile:0.9"),
            ("2026-01-01", "2026-01-01"),
            ("a=b", "a=b"),
            ("007", "007"),
            ("1\nseed = 3", "1\nseed = 3"),
        ],
    )
    def test_values_of_options(self, word: str, value: object) -> None:
        read = load_config(None, [f"--objective.thing={word}"]).objective.options["thing"]
        assert read == value
        assert type(read) is type(value)

    def test_text_settings_keep_their_text(self) -> None:
        config = load_config(None, ["--model", "7", "--model_revision", "1e5", "--output", "true"])
        assert (config.model, config.model_revision, config.output) == ("7", "1e5", "true")

    def test_none_means_none_only_where_none_is_a_value(self) -> None:
        config = load_config(
            None, ["--output", "none", "--trainer.save_total_limit", "None", "--trainer.report_to", "none"]
        )
        assert (config.output, config.trainer.save_total_limit, config.trainer.report_to) == (None, None, "none")

    def test_trl_fields_that_we_do_not_name_pass_through(self) -> None:
        config = load_config(None, ["--trainer.min_p", "0.1", "--trainer.report_to", '["wandb"]'])
        assert config.trainer.model_extra == {"min_p": 0.1}
        assert config.trainer.report_to == ["wandb"]

    def test_dashes_are_underscores_in_keys(self) -> None:
        assert load_config(None, ["--trainer.max-steps", "3", "train-problems=64"]).trainer.max_steps == 3

    def test_a_key_without_value(self) -> None:
        assert "--evaluation.enabled needs a value" in error_of("--evaluation.enabled")
        assert "--evaluation.enabled needs a value" in error_of("--evaluation.enabled", "--seed", "1")

    def test_a_word_that_is_no_key(self) -> None:
        assert "'twenty' is not an override" in error_of("twenty")
        assert "not a dotted key" in error_of("--trainer..max_steps=3")

    def test_a_setting_inside_a_value(self) -> None:
        assert "was given the value 3 before" in error_of("--trainer", "3", "--trainer.max_steps", "4")


class TestRefusals:
    """Every sentence names the key, and how to mend it."""

    @pytest.mark.parametrize(
        ("words", "nearest"),
        [
            (["--traner.max_steps", "1"], "'trainer'"),
            (["--learning_rate", "1"], "'dictionary.learning_rate' or 'trainer.learning_rate'"),
            (["--max_steps", "1"], "'trainer.max_steps'"),
            (["--evaluation.num_sample", "1"], "'evaluation.num_samples'"),
            (["--dictionary.num_observable", "1"], "'dictionary.num_observables'"),
            (["--sede", "1"], "'seed'"),
        ],
    )
    def test_unknown_key_with_the_nearest(self, words: list[str], nearest: str) -> None:
        assert error_of(*words).endswith(f"did you mean {nearest}?")

    def test_unknown_key_with_nothing_near_lists_what_there_is(self) -> None:
        assert "unknown key 'evaluation.zzz'; there are: enabled, before, split, num_problems" in error_of(
            "--evaluation.zzz", "1"
        )

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["--trainer.max_steps", "ten"], ["'trainer.max_steps'", "integer", "'ten'"]),
            (["--trainer.max_steps", "true"], ["'trainer.max_steps'", "integer", "True"]),
            (["--trainer.max_steps", "0"], ["'trainer.max_steps'", "greater than or equal to 1", "0"]),
            (["--trainer.learning_rate", "fast"], ["'trainer.learning_rate'", "number", "'fast'"]),
            (["--trainer.learning_rate", "nan"], ["'trainer.learning_rate'", "finite", "nan"]),
            (["--dtype", "fp8"], ["'dtype'", "'float32', 'mixed' or 'bfloat16'", "'fp8'"]),
            (["--trainer.report_to", "3"], ["'trainer.report_to'", "string", "3"]),
            (["--trainer", "3"], ["'trainer'", "table", "3"]),
            (["--objective", "[1]"], ["'objective'", "table", "[1]"]),
        ],
    )
    def test_wrong_type_names_key_value_and_expectation(self, words: list[str], parts: list[str]) -> None:
        message = error_of(*words)
        assert all(part in message for part in parts), message

    def test_several_mistakes_are_all_named_once(self) -> None:
        message = error_of("--sede", "1", "--trainer.max_steps", "ten", "--trainer.report_to", "3")
        assert message.count("trainer.report_to") == 1
        assert "'sede'" in message
        assert "trainer.max_steps" in message

    def test_group_of_one(self) -> None:
        assert "trainer.num_generations is 1" in error_of("--trainer.num_generations", "1")

    @pytest.mark.parametrize(("batch", "choices"), [("18", "use 16 or 32"), ("6", "use 16"), ("42", "use 32 or 48")])
    def test_split_groups_name_the_nearest_valid_numbers(self, batch: str, choices: str) -> None:
        assert error_of("--trainer.per_device_train_batch_size", batch).endswith(choices)

    def test_more_observables_than_snapshot_pairs(self) -> None:
        words = ["--trainer.max_completion_length", "32", "--dictionary.num_observables"]
        assert load_config(None, [*words, "30"]).dictionary.num_observables == 30
        message = error_of(*words, "31")
        assert "gives at most 31" in message
        assert "set trainer.max_completion_length to at least 33" in message
        fixed = [*words, "31", "--trainer.max_completion_length", "33"]
        assert load_config(None, fixed).dictionary.num_observables == 31

    def test_updates_that_straddle_rollouts(self) -> None:
        words = ["--trainer.gradient_accumulation_steps", "4", "--trainer.steps_per_generation"]
        assert "set trainer.steps_per_generation to 4" in error_of(*words, "6")

    def test_a_checkpoint_inside_a_rollout(self) -> None:
        trainer = load_config(None, ["--trainer.num_iterations", "4", "--trainer.save_steps", "3"]).trainer
        assert (trainer.num_iterations, trainer.save_steps) == (4, 3)

    def test_fewer_problems_than_a_rollout_takes(self) -> None:
        assert "16 prompts" in error_of("--train_problems", "15")
        assert load_config(None, ["--train_problems", "16"]).train_problems == 16

    @pytest.mark.parametrize("key", ["seed", "output_dir", "bf16", "generation_batch_size", "num_train_epochs"])
    def test_a_knob_that_has_its_place_elsewhere(self, key: str) -> None:
        assert f"'trainer.{key}' is not set there; use '" in error_of(f"--trainer.{key}", "1")

    def test_the_constructor_raises_the_same_error(self) -> None:
        with pytest.raises(ConfigError, match=r"trainer\.num_generations is 1"):
            TrainConfig(trainer=TrainerConfig(num_generations=1))

    def test_a_config_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            TrainConfig().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


class TestSources:
    def test_a_name_that_is_not_shipped(self) -> None:
        assert error_of(source="countdwon").endswith("did you mean 'countdown'?")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert "there is no config file" in error_of(source=tmp_path / "no.toml")

    @pytest.mark.parametrize(
        ("name", "text", "part"),
        [
            ("a.toml", "seed = ", "is not valid TOML"),
            ("a.yaml", "seed: [1", "is not valid YAML"),
            ("a.json", "{", "is not valid JSON"),
            ("a.yaml", "- 1\n- 2\n", "must hold a table"),
            ("a.ini", "seed = 1", "must end in .toml"),
        ],
    )
    def test_files_that_cannot_be_read(self, tmp_path: Path, name: str, text: str, part: str) -> None:
        (tmp_path / name).write_text(text)
        assert part in error_of(source=tmp_path / name)

    def test_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
        assert "cannot read the config file" in error_of(source=tmp_path / "a.toml")

    def test_a_run_directory_is_a_source(self, tmp_path: Path) -> None:
        config = load_config("countdown", ["--seed", "3"])
        (tmp_path / "config.json").write_text(config.to_json())
        assert load_config(tmp_path) == config


names = st.text("abcdefghij_", min_size=1, max_size=8).filter(lambda key: key not in ("name", "options"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
options = st.dictionaries(names, values, max_size=4)
configs = st.builds(
    TrainConfig,
    model=st.text(),
    seed=st.integers(0, 2**31),
    output=st.none() | st.text(min_size=1),
    task=st.builds(TaskConfig, name=st.text(min_size=1), options=options),
    objective=st.builds(ObjectiveConfig, name=st.text(min_size=1), options=options),
    dictionary=st.builds(DictionaryConfig, num_observables=st.none() | st.integers(1, 200)),
    trainer=st.builds(TrainerConfig, learning_rate=st.floats(0, 1), temperature=st.floats(0.1, 2), min_p=values),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs)
def test_what_is_written_reads_back_as_the_same_config(tmp_path: Path, config: TrainConfig) -> None:
    path = tmp_path / "config.json"
    path.write_text(config.to_json(), encoding="utf-8")
    again = read_settings(path)
    assert again == config
    assert again.digest == config.digest
    assert again.to_json() == config.to_json()


@settings(max_examples=80, deadline=None)
@given(tree=options)
def test_words_and_mappings_mean_the_same(tree: dict[str, object]) -> None:
    # "none" and "null" as text are spelled with quotes on a command line, as json.dumps does.
    words = [f"--objective.{key}={json.dumps(value)}" for key, value in tree.items()]
    assert load_config(None, words) == load_config(None, {"objective": tree})


def test_the_digest_stands_for_the_settings_and_not_for_the_place() -> None:
    config = TrainConfig()
    assert config.digest == load_config(config, ["--output", "elsewhere"]).digest
    assert config.digest != load_config(config, ["--objective.alpha", "0.2"]).digest
    assert len(config.digest) == 16


def test_the_run_directory_by_default() -> None:
    assert load_config(None, ["--seed", "4", "--objective", "grpo"]).output_path == Path("runs/countdown-grpo-seed4")
    own = load_config(None, ["--task", "my.package:Task"])
    assert own.output_path == Path("runs/my.package-Task-relax-seed0")


class TestBatchArithmetic:
    def test_the_default_by_hand(self) -> None:
        plan = batch_arithmetic(TrainConfig())
        # 4 micro-batches of 64 are 256 completions: 16 prompts with 16 each; 100 updates take 25,600 completions.
        assert (plan.prompts_per_rollout, plan.completions_per_rollout) == (16, 256)
        assert (plan.updates, plan.rollouts, plan.total_completions) == (100, 100, 25_600)
        assert plan.words().splitlines() == [
            "rollout   16 prompts x 16 completions = 256 completions, for 1 update",
            "update    16 prompts, 256 completions: 1 process x 4 micro-batches of 64",
            "run       100 updates from 100 rollout batches",
            "in all    25,600 completions sampled",
        ]

    def test_two_processes_reusing_a_large_rollout(self) -> None:
        trainer = TrainerConfig(
            max_steps=10,
            num_generations=8,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            steps_per_generation=6,
            num_iterations=2,
            save_steps=6,
        )
        plan = batch_arithmetic(TrainConfig(trainer=trainer), num_processes=2)
        # A rollout: 2 processes x 6 x 16 = 192 completions = 24 prompts, serving 6 * 2 / 2 = 6 updates of 64.
        assert (plan.completions_per_rollout, plan.prompts_per_rollout, plan.updates_per_rollout) == (192, 24, 6)
        assert (plan.completions_per_update, plan.prompts_per_update) == (64, 8)
        assert (plan.rollouts, plan.total_completions) == (2, 384)
        assert plan.visits(96) == 0.5
        assert "for 6 updates" in plan.words()
        assert "2 processes x 2 micro-batches of 16" in plan.words()

    def test_several_rollouts_in_an_update_are_refused_before_the_run(self) -> None:
        with pytest.raises(ValueError, match=r"set trainer\.steps_per_generation to 4"):
            batch_arithmetic(TrainConfig(trainer=TrainerConfig(steps_per_generation=1)))

    @settings(max_examples=60, deadline=None)
    @given(
        group=st.integers(2, 9),
        groups=st.integers(1, 4),
        accumulation=st.integers(1, 6),
        factor=st.integers(1, 4),
        iterations=st.integers(1, 3),
        steps=st.integers(1, 50),
        processes=st.integers(1, 4),
    )
    def test_agrees_with_counting_micro_batches_one_by_one(
        self, group: int, groups: int, accumulation: int, factor: int, iterations: int, steps: int, processes: int
    ) -> None:
        per_rollout, micro = accumulation * factor, group * groups
        trainer = TrainerConfig(
            max_steps=steps,
            num_generations=group,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            steps_per_generation=per_rollout,
            num_iterations=iterations,
            save_steps=factor * iterations,
        )
        plan = batch_arithmetic(TrainConfig(trainer=trainer), processes)
        # TRL generates at every micro-batch whose number is a multiple of steps_per_generation * num_iterations.
        sampled = sum(
            micro * per_rollout * processes for n in range(steps * accumulation) if n % (per_rollout * iterations) == 0
        )
        assert plan.total_completions == sampled
        assert plan.rollouts == sampled // (micro * per_rollout * processes)
        assert plan.updates_per_rollout == math.ceil(per_rollout * iterations / accumulation)

    def test_the_number_of_problems_found(self) -> None:
        with pytest.raises(ConfigError, match="has 3 problems, fewer than the 16 prompts"):
            batch_arithmetic(TrainConfig(), num_problems=3)


def test_settings_load_without_torch() -> None:
    code = (
        "import sys, relax_rl.config, relax_rl.runs; relax_rl.config.load_config('countdown'); "
        "print(sorted({'torch', 'transformers', 'trl', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
