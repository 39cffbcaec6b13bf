"""The public names and their signatures, pinned on purpose.

A change here is a change for every program that uses the package: make it knowingly, and note it in CHANGELOG.md.
What the functions do is tested in tests/workflows and tests/training/test_relax_trainer.py.
"""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import relax_rl

SIGNATURES = {
    "RelaxTrainer": [
        "model: Any",
        "reward_funcs: Any = None",
        "args: RelaxConfig | None = None",
        "train_dataset: Any = None",
        "eval_dataset: Any = None",
        "processing_class: Any = None",
        "reward_processing_classes: Any = None",
        "callbacks: list[TrainerCallback] | None = None",
        "optimizers: tuple[Any, Any] = (None, None)",
        "quantization_config: Any = None",
        "peft_config: Any = None",
        "tools: list[Callable[..., Any]] | None = None",
        "rollout_func: Any = None",
        "environment_factory: Any = None",
        "*",
        "objective: str | Objective = 'relax'",
        "objective_options: Mapping[str, Any] | None = None",
        "card: str | None = None",
        "recorder: RolloutRecorder | None = None",
        "max_batches: int = 1",
        "branching: Branching | None = None",
        "group_sampler: GroupSampler | None = None",
        "guard: GuardConfig | None = None",
        "notices: Notices | None = None",
        "most_prompt_tokens: int | None = None",
    ],
    "compare": [
        "config: str | Path | TrainConfig | Mapping[str, Any] | None = None",
        "methods: Methods = ('grpo', 'relax')",
        "seeds: int | str | Sequence[int] = 3",
        "*",
        "overrides: Sequence[str] | Mapping[str, Any] = ()",
        "baseline: str | None = None",
        "metrics: Sequence[str] | None = None",
        "output: str | Path = 'runs/compare'",
        "jobs: int = 1",
        "overwrite: bool = False",
        "unverified: bool = False",
        "allow_code: Collection[str] = ()",
        "other_versions: bool = False",
        "match_step: bool = False",
        "frontier: Sequence[str] = ()",
        "on_progress: OnProgress | None = None",
        "-> ComparisonResult",
    ],
    "dispersion_of": [
        "model: Any",
        "tokenizer: Any",
        "texts: Sequence[str]",
        "*",
        "dictionary: StoredDictionary | str | Path | None = None",
        "num_observables: int | None = None",
        "estimator: Estimator = 'robust'",
        "site: str = 'final_norm_out'",
        "fit_steps: int = 150",
        "seed: int = 0",
        "batch_tokens: int = 8192",
        "-> TextDispersion",
    ],
    "evaluate": [
        "model: Any",
        "task: str | Task | None = None",
        "*",
        "num_samples: int = 16",
        "num_problems: int | None = None",
        "max_completion_length: int | None = None",
        "temperature: float = 1.0",
        "top_p: float = 1.0",
        "split: str = 'test'",
        "seed: int = 0",
        "problem_seed: int = 0",
        "tokenizer: Any = None",
        "batch_size: int = 256",
        "processes: int | None = None",
        "backend: str = 'transformers'",
        "base_url: str | None = None",
        "plain: bool | None = None",
        "chat_template_kwargs: Mapping[str, Any] | None = None",
        "overlong: Overlong | None = None",
        "max_prompt_length: int | None = None",
        "min_pixels: int | None = None",
        "max_pixels: int | None = None",
        "concurrency: int = 16",
        "timeout: float = 600.0",
        "dictionary: str | Path | KoopmanDictionary | None = None",
        "dtype: str = 'float32'",
        "revision: str | None = None",
        "task_options: Mapping[str, Any] | None = None",
        "policy: str | None = None",
        "against: EvaluationResult | None = None",
        "despite: Collection[str] = ()",
        "output: str | Path | None = None",
        "overwrite: bool = False",
        "allow_code: Collection[str] = ()",
        "on_progress: OnProgress | None = None",
        "-> EvaluationResult",
    ],
    "load_config": [
        "source: str | Path | TrainConfig | Mapping[str, Any] | None = None",
        "overrides: Sequence[str] | Mapping[str, Any] = ()",
        "*",
        "allow_code: Collection[str] = ()",
        "-> TrainConfig",
    ],
    "report": [
        "runs: str | Path | Sequence[str | Path]",
        "output: str | Path | None = None",
        "*",
        "figures: str | Path | None = None",
        "-> Path",
    ],
    "rollout_batch": [
        "model: Any",
        "tokenizer: Any",
        "prompts: Sequence[Prompt]",
        "completions: Sequence[Sequence[Completion]]",
        "rewards: Any",
        "*",
        "old_log_probs: Tensor | None = None",
        "reference: Any = None",
        "temperature: float = 1.0",
        "objective: Objective | None = None",
        "with_hidden_states: bool = True",
        "-> RolloutBatch",
    ],
    "spectrum": [
        "model: Any",
        "*",
        "prompts: str | Path | Sequence[str] | None = None",
        "task: str | Task | None = None",
        "text: bool = False",
        "compare: Any = None",
        "num_problems: int = 20",
        "max_completion_length: int | None = None",
        "num_samples: int = 1",
        "temperature: float = 1.0",
        "split: str = 'test'",
        "seed: int = 0",
        "sites: Sequence[str] = ()",
        "estimators: Sequence[str] = ('paper', 'robust')",
        "kind: str = 'sigmoid'",
        "num_observables: int | None = None",
        "fit_steps: int = 150",
        "dictionaries: Mapping[str, str | Path | StoredDictionary] | None = None",
        "tokenizer: Any = None",
        "dtype: str = 'float32'",
        "revision: str | None = None",
        "device_map: str | None = None",
        "batch_tokens: int = 8192",
        "store: str | Path | None = None",
        "statistics_only: bool = False",
        "plain: bool | None = None",
        "chat_template_kwargs: Mapping[str, Any] | None = None",
        "overlong: Overlong | None = None",
        "task_options: Mapping[str, Any] | None = None",
        "output: str | Path | None = None",
        "overwrite: bool = False",
        "figures: str | Path | None = None",
        "command: Sequence[str] = ()",
        "on_progress: OnProgress | None = None",
        "-> SpectrumResult",
    ],
    "train": [
        "config: Source = None",
        "*",
        "overrides: Sequence[str] | Mapping[str, Any] = ()",
        "model: Any = None",
        "tokenizer: Any = None",
        "task: str | Task | None = None",
        "verifier: str | Verifier | Scorer | None = None",
        "objective: str | Objective | None = None",
        "resume: bool = False",
        "overwrite: bool = False",
        "allow_code: Collection[str] = ()",
        "other_versions: bool = False",
        "share_before: str | Path | None = None",
        "on_progress: OnProgress | None = None",
        "-> TrainResult",
    ],
}


def signature_of(name: str) -> list[str]:
    """The parameters as they are written, and what is returned."""
    signature = inspect.signature(getattr(relax_rl, name))
    lines: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"{parameter.name}: {parameter.annotation}{default}")
    returned = signature.return_annotation
    return lines if returned in (signature.empty, "None") else [*lines, f"-> {returned}"]


def test_the_names_are_these_and_no_others():
    assert sorted(relax_rl.__all__) == sorted([*SIGNATURES, "RelaxConfig", "__version__"])
    assert len(relax_rl.__all__) <= 15
    assert dir(relax_rl) == sorted(relax_rl.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signature_is_this(name):
    assert signature_of(name) == SIGNATURES[name]


def test_the_config_has_trls_fields_and_no_others():
    from trl import GRPOConfig

    ours, trls = inspect.signature(relax_rl.RelaxConfig), inspect.signature(GRPOConfig)
    # The policy that learns is the one that sampled, so dropout is off unless it is asked for.
    assert ours.parameters["disable_dropout"].default is True
    assert str(ours).replace("disable_dropout: 'bool' = True", "disable_dropout: bool = False") == str(trls)


LAZY = ["", ".comparison", ".latent", ".reports", ".spectra", ".statistics", ".training"]


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_and_python_find_each_name_at_the_same_place(package):
    module = import_module(f"relax_rl{package}")
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == [name for name in module.__all__ if name != "__version__"]
    assert dir(module) == sorted(module.__all__)
    for name, place in seen.items():
        assert getattr(module, name) is getattr(import_module(place), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'; it has"):
        module.nothing  # noqa: B018


def test_importing_the_package_loads_neither_torch_nor_transformers(tmp_path):
    code = (
        "import sys, relax_rl; relax_rl.__version__, dir(relax_rl);"
        "print(sorted({'torch', 'transformers', 'trl', 'numpy', 'pydantic'} & set(sys.modules)));"
        "relax_rl.load_config; relax_rl.train; relax_rl.evaluate; relax_rl.spectrum; relax_rl.report;"
        "relax_rl.compare; relax_rl.rollout_batch; relax_rl.dispersion_of;"
        "print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(AttributeError, match=r"no attribute 'trane'; it has RelaxConfig, .*, train$"):
        relax_rl.trane  # noqa: B018
