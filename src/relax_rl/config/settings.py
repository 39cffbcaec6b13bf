"""The settings of a run: strict, frozen models whose defaults are the paper's numbers where it gives one.

What fits a small policy on a small machine is a shipped file (``relax train countdown``), not a default.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

from relax_rl.config.batches import batch_arithmetic
from relax_rl.config.evaluation import EvaluationConfig
from relax_rl.config.messages import one_sentence
from relax_rl.config.peft import PeftConfig
from relax_rl.config.section import Section
from relax_rl.config.sight import SightConfig
from relax_rl.errors import ConfigError
from relax_rl.redaction import refuse_secrets

__all__ = [
    "DictionaryConfig",
    "GuardConfig",
    "ObjectiveConfig",
    "PromptConfig",
    "SamplingConfig",
    "TaskConfig",
    "TrainConfig",
    "TrainerConfig",
    "VerifierConfig",
]


class _Named(Section):
    """A name and its own options, written as one flat table, or as the bare name when there are none."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if not isinstance(data, Mapping):
            return data
        given = data.get("options", {})
        options = dict(given) if isinstance(given, Mapping) else {"options": given}
        options |= {key: value for key, value in data.items() if key not in ("name", "options")}
        return {key: data[key] for key in ("name",) if key in data} | {"options": options}

    @model_validator(mode="after")
    def _options_are_json(self) -> _Named:
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"an option of {self.name!r} cannot be written as JSON ({error}); "
                "use numbers, strings, lists, tables and null"
            ) from error
        return self

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}


class TaskConfig(_Named):
    """Source of the problems; the options are those of the task (``--task.path problems.jsonl``)."""

    name: str = "countdown"


class ObjectiveConfig(_Named):
    """The method and its coefficients (``--objective.alpha 0.1``)."""

    name: str = "relax"


class VerifierConfig(_Named):
    """Grader of the completions: a verifier's name (``task``: the task's own) with its options, and ``weight``."""


class DictionaryConfig(Section):
    """How the observables of the Koopman dictionary are fitted; null is the objective's own choice, for every key.

    The values behind null differ between objectives (``relax`` and ``relax_as_run`` are two readings of the paper), so
    they are written where the objectives are.
    """

    num_observables: int | None = Field(default=None, ge=1)
    """Number F of observables; fewer than the snapshot pairs of the longest completion,
    ``trainer.max_completion_length - 1``."""
    steps: int | None = Field(default=None, ge=0)
    """Adam steps; 0 leaves the random start."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of Adam."""
    batch_size: int | None = Field(default=None, ge=1)
    """Completions in one step of the fit."""
    fit_objective: Literal["relative_residual", "paper", "as_run"] | None = None
    """``paper`` is Eq. 8 as printed, which collapsing the observables minimises."""
    refit_interval: int | None = Field(default=None, ge=1)
    """Updates between two fits."""
    max_trajectories: int | None = Field(default=None, ge=1)
    """At most so many completions of the rollout batch take part in the fit, 512 by default."""
    max_positions: int | None = Field(default=None, ge=1)
    """Only so many first tokens of a completion take part in the fit, 512 by default."""


class TrainerConfig(BaseModel):
    """TRL's ``GRPOConfig`` under its own names; the fields named here carry our defaults, the others TRL's."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    max_steps: int = Field(default=100, ge=1)
    """Optimiser updates."""
    num_generations: int = 16
    """G, the completions of a prompt."""
    per_device_train_batch_size: int = Field(default=64, ge=1)
    """Completions in one micro-batch, whole groups of them."""
    gradient_accumulation_steps: int = Field(default=4, ge=1)
    """Micro-batches in an update."""
    steps_per_generation: int | None = Field(default=None, ge=1)
    """Micro-batches in a rollout batch; null: one update's worth."""
    num_iterations: int = Field(default=1, ge=1)
    """Times that a rollout batch is used."""
    max_completion_length: int = Field(default=256, ge=1)
    """Largest length of a completion, in tokens."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the rollouts."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the rollouts; 1 samples from the whole distribution."""
    top_k: int = Field(default=0, ge=0)
    """Most probable tokens to sample from; 0 is all."""
    learning_rate: float = Field(default=1e-6, ge=0)
    """Learning rate of AdamW at its peak."""
    lr_scheduler_type: str = "constant"
    """Schedule of the learning rate, by its name in transformers."""
    warmup_steps: int | float = Field(default=0, ge=0)
    """Updates, or share of them below 1, in which the learning rate rises."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm that the gradient is clipped to."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights, as in AdamW."""
    logging_steps: int = Field(default=1, ge=1)
    """Updates between rows of ``metrics.jsonl``."""
    save_steps: int = Field(default=50, ge=1)
    """Updates between checkpoints."""
    save_total_limit: int | None = Field(default=2, ge=1)
    """Checkpoints that are kept; null keeps all."""
    report_to: str | list[str] = "none"
    """Trackers, such as "tensorboard" or "wandb"."""
    disable_dropout: bool = True
    """The policy that learns is the one that sampled; false trains with the model's own dropout."""
    model_init_kwargs: dict[str, Any] | None = None
    """Options of `from_pretrained` that do not change which model it is, such as ``attn_implementation``."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Switches of the chat template, such as ``{"enable_thinking": false}``, in training and in every evaluation."""

    @model_validator(mode="after")
    def _one_place_for_a_key(self) -> TrainerConfig:
        for key in self.model_extra or {}:
            if key in _SET_ELSEWHERE:
                raise ValueError(f"'trainer.{key}' is not set there; {_SET_ELSEWHERE[key]}")
        for key, value in {**(self.model_extra or {}), "model_init_kwargs": self.model_init_kwargs}.items():
            if isinstance(value, Mapping) and value.get("trust_remote_code"):
                raise ValueError(f"'trainer.{key}.trust_remote_code' is not set there; {_NO_FILE}")
        return self


_NO_FILE = "pass --trust-remote-code, which no file can give"

_SET_ELSEWHERE = {
    "seed": "use 'seed'",
    "trust_remote_code": _NO_FILE,
    "output_dir": "use 'output', the run directory, which keeps the checkpoints",
    "resume_from_checkpoint": "pass --resume, which finds the run's last complete checkpoint",
    "bf16": "use 'dtype'",
    "fp16": "use 'dtype'",
    "generation_batch_size": "use 'trainer.steps_per_generation', which counts the same in micro-batches",
    "num_train_epochs": "use 'trainer.max_steps', which counts updates",
}


_RENAMED = {"run": "output"}
"""Former keys outside any table, with the present ones."""

Precision = Literal["float32", "mixed", "bfloat16"]
"""``mixed``: weights and optimiser in float32, the model's forward and backward in bfloat16. ``bfloat16`` keeps the
weights in it, too, whose steps are 1/256 of a weight: a smaller update is rounded away."""


class PromptConfig(Section):
    """How problems become prompts, in training and in the run's evaluations."""

    plain: bool = False
    """The plain words, also for a model with a chat template, such as a base model that has one."""
    overlong: Literal["refuse", "cut", "drop"] = "refuse"
    """A prompt that leaves no room for a whole completion in the model's context ends the run before it starts, loses
    its start, or is left out with its problem."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Tokens, those of images counted. Problems with longer prompts are left out, in training and in evaluations, and
    counted; nothing is cut."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Images of fewer pixels (width times height) are enlarged, before the model's processor sees them."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Images of more pixels are made smaller."""

    @model_validator(mode="after")
    def _check_pixels(self) -> PromptConfig:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(
                f"prompts.min_pixels = {self.min_pixels} is above prompts.max_pixels = {self.max_pixels}; exchange them"
            )
        return self


Engine = Literal["auto", "relax", "generate"]
ModelPart = Literal["vision", "projector", "language"]


class SamplingConfig(Section):
    """How rollout batches are put together, for any method."""

    engine: Engine = "auto"
    """Sampler of the rollouts. relax: the sampler of the evaluation, which is faster and gives each completion a
    random stream of its own; generate: TRL's `generate`, or vLLM with trainer.use_vllm; auto: relax where it can do
    what the run asks for, else generate. The run's config.json records which."""
    max_batches: int = Field(default=1, ge=1)
    """Dynamic sampling: replace groups whose rewards are all equal, sampling at most so many batches' worth; 1: never
    (DAPO: 10)."""
    trunks: int | None = Field(default=None, ge=1)
    """CURE: only so many completions of a group are sampled from the prompt, the others from within these, where the
    entropy is high (4 of 16); null: all from the prompt."""
    branch_top: int = Field(default=20, ge=1)
    """CURE: a branch begins at one of so many tokens of highest entropy."""


class GuardConfig(Section):
    """When a run stops over numbers that are not finite, and when it says that nothing is learned."""

    max_consecutive: int = Field(default=3, ge=1)
    """Stop after so many updates in a row with a loss, log-probability or gradient that is not finite. The optimiser
    does not step on such an update."""
    max_share: float = Field(default=0.1, ge=0, le=1)
    """Stop when more than this share of the updates so far, and two or more, were not stepped on."""
    warn_after: int = Field(default=10, ge=1)
    """Warn when nothing was learned for so many updates, or when rewards or completions were degenerate for as many."""
    max_unscored: float = Field(default=0.5, ge=0, le=1)
    """Stop when more than this share of the completions of the last three rollout batches have no score, because their
    gold answers cannot be read or the grader fails. An answer that cannot be graded scores 0 and is not meant."""


def _plain_table(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain_table(each) for each in value]
    return value.model_dump() if isinstance(value, BaseModel) else value


class TrainConfig(Section):
    """A training run. Raises ``ConfigError`` for an unknown key, a wrong type and a pair that does not fit."""

    model: str = "tiny"
    """``tiny`` (the embedded policy), ``smollm2`` (after ``make smollm2``), a Hugging Face name or a local folder."""
    model_revision: str | None = None
    """Revision of a model on the Hub."""
    dtype: Precision = "float32"
    """float32, mixed (weights in float32, computed in bfloat16) or bfloat16."""
    task: TaskConfig = TaskConfig()
    verifier: str | VerifierConfig | list[VerifierConfig] | None = None
    """A name or ``package.module:function``; a table with options; several tables, each with a weight; null: the
    task's own."""
    train_split: str = "train"
    """Split of the task that is trained on."""
    train_problems: int | None = Field(default=None, ge=1)
    """The first so many problems of the split; null: all of it."""
    objective: ObjectiveConfig = ObjectiveConfig()
    dictionary: DictionaryConfig = DictionaryConfig()
    monitor: bool = True
    """Measure the dispersion also under a method that does not use it; the loss stays the same."""
    trainer: TrainerConfig = TrainerConfig()
    peft: PeftConfig = PeftConfig()
    freeze: list[ModelPart] = Field(default_factory=list[ModelPart])
    """Parts of an image-text model that do not learn, with commas between them: vision (what sees), projector (what
    carries features over), language. With peft.r, they get no adapter."""
    prompts: PromptConfig = PromptConfig()
    sampling: SamplingConfig = SamplingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    guard: GuardConfig = GuardConfig()
    sight: SightConfig = SightConfig()
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of initialisation, data order and sampling."""
    output: str | None = None
    """The run directory; null: ``runs/<task>-<objective>-seed<seed>``."""

    if not TYPE_CHECKING:  # a type checker keeps the signature with the fields

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise ConfigError(one_sentence(error, TrainConfig)) from None

    @model_validator(mode="before")
    @classmethod
    def _name_what_was_renamed(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for former, name in _RENAMED.items():
                if former in data:
                    raise ValueError(f"'{former}' is now '{name}'")
        return data

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secret(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            refuse_secrets({key: _plain_table(value) for key, value in data.items()})
        return data

    @field_validator("freeze", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_frozen(self) -> TrainConfig:
        if len(set(self.freeze)) == len(get_args(ModelPart)):
            raise ValueError("freeze names every part of the model, so that nothing would learn; leave one out")
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> TrainConfig:
        group, micro = self.trainer.num_generations, self.trainer.per_device_train_batch_size
        if group < 2:
            raise ValueError(
                f"trainer.num_generations is {group}, and an advantage relative to a group of one is always zero; "
                "use at least 2 (the paper uses 16)"
            )
        if micro % group and micro * self.trainer.gradient_accumulation_steps % group:
            below, above = micro // group * group, -(-micro // group) * group
            choices = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"trainer.per_device_train_batch_size = {micro} is not a multiple of trainer.num_generations = "
                f"{group}, and an update of one process holds whole groups; use {choices}"
            )
        return self

    @model_validator(mode="after")
    def _check_trunks(self) -> TrainConfig:
        group, trunks = self.trainer.num_generations, self.sampling.trunks
        if trunks is not None and (group % trunks or group == trunks):
            raise ValueError(
                f"sampling.trunks = {trunks} must divide trainer.num_generations = {group} and leave room for "
                "branches; CURE takes 4 of 16"
            )
        return self

    @model_validator(mode="after")
    def _check_lengths(self) -> TrainConfig:
        observables, length = self.dictionary.num_observables, self.trainer.max_completion_length
        if observables is not None and observables >= length - 1:
            fewer = f"set dictionary.num_observables to {max(1, length // 3)}, or " if length > 3 else ""
            raise ValueError(
                f"dictionary.num_observables = {observables} needs completions of more snapshot pairs than that, but "
                f"trainer.max_completion_length = {length} gives at most {length - 1}; {fewer}"
                f"set trainer.max_completion_length to at least {observables + 2}"
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> TrainConfig:
        batch_arithmetic(self)
        return self

    @property
    def output_path(self) -> Path:
        """The run directory, named or by default; signs in the name of a task of one's own become dashes."""
        name = re.sub(r"[^\w.-]+", "-", f"{self.task.name}-{self.objective.name}-seed{self.seed}")
        return Path(self.output or f"runs/{name}")

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for every setting but the place of the run directory."""
        settings = json.dumps(self.model_dump(mode="json", exclude={"output"}), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:16]

    def sampled_by(self, engine: Engine) -> TrainConfig:
        """These settings with another `sampling.engine`."""
        return self.model_copy(update={"sampling": self.sampling.model_copy(update={"engine": engine})})

    def to_json(self) -> str:
        """Every setting, resolved; ``load_config`` reads it back to an equal config."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
