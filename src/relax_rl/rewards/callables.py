"""Any Python callable as a verifier, and several verifiers as one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from relax_rl.errors import ConfigError
from relax_rl.import_path import resolve_own
from relax_rl.rewards.base import BaseVerifier, Verdict, Verifier, as_verifier, graded
from relax_rl.rewards.batch import GradingBatch
from relax_rl.rewards.own_code import as_scores, called, place_of

__all__ = ["CallableVerifier", "WeightedVerifiers", "load_own"]


class CallableVerifier(BaseVerifier):
    """A function, or the one at ``package.module:function``, called as ``function(completions, answers)``.

    It returns one number or None (could not be scored; NaN says the same) for each completion, as a list, a tuple, a
    NumPy array or a tensor. It is the user's own code and runs in this process, without limits (see `.own_code`).

    Raises:
        ConfigError: the path has another form, or no function of completions and answers is there.
    """

    def __init__(self, function: str | Callable[..., Any], *, name: str | None = None) -> None:
        path = function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
        self._function: Callable[..., Any] = load_own(function) if isinstance(function, str) else function
        if next(iter(_parameters(self._function)), "") == "prompts":
            raise ConfigError(
                f"The verifier '{path}' takes the prompts as TRL passes them, and so rewards training alone: name it "
                "with --verifier, and give a task a function of completions and answers."
            )
        self.path = path
        self.name = name or path.rpartition(":")[2]
        self._what = f"The verifier '{path}' ({place_of(self._function)})"

    @property
    def described(self) -> str:
        return self._what

    @property
    def is_own_code(self) -> bool:
        return True

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """Raises DataError if the function raises, or returns anything but one score a completion."""
        scores = called(self._what, self._function, batch.texts, list(batch.answers))
        return [Verdict(score) for score in as_scores(scores, len(batch), self._what)]


def load_own(path: str) -> Callable[..., Any]:
    """The function of completions and answers, or in TRL's signature, at an import path.

    Raises:
        ConfigError: the path has another form, or no such function is there.
    """
    try:
        return resolve_own(path, _takes_completions, "a function of completions and answers")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The verifier '{path}' cannot be loaded: {error}; give the import path of a function "
            "(completions, answers) -> list of numbers, such as my_package.rewards:exact_match."
        ) from error


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _takes_completions(found: Any) -> bool:
    """Any function or callable object of two positional arguments, or of TRL's keywords; a class would be constructed,
    not asked."""
    if inspect.isclass(found) or inspect.isbuiltin(found):
        return False
    parameters = _parameters(found)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        needed = {
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_ONLY
        }
        return not needed
    try:
        inspect.signature(found).bind([], [])
    except (TypeError, ValueError):
        return False
    return True


class WeightedVerifiers(BaseVerifier):
    """The weighted sum of several verifiers' scores; None as soon as one of them could not score.

    Args:
        weights: verifier -> weight, as pairs or as a mapping.

    Raises:
        ConfigError: no verifier, two of the same name, or a weight that is not a finite number.
    """

    def __init__(
        self, weights: Mapping[Verifier, float] | Sequence[tuple[Verifier, float]], *, name: str = "weighted"
    ) -> None:
        pairs = list(weights.items()) if isinstance(weights, Mapping) else list(weights)
        if not pairs:
            raise ConfigError("A weighted set of verifiers needs at least one verifier.")
        names = [verifier.name for verifier, _ in pairs]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"Two verifiers have the name '{repeated[0]}'; give one of them another name.")
        for verifier, weight in pairs:
            if not isinstance(weight, Real) or not abs(float(weight)) < float("inf"):
                raise ConfigError(f"The weight of the verifier '{verifier.name}' is {weight!r}; it must be a number.")
        self.members: tuple[tuple[BaseVerifier, float], ...] = tuple(
            (as_verifier(verifier), float(weight)) for verifier, weight in pairs
        )
        self.name = name
        self.has_modes = any(verifier.has_modes for verifier, _ in self.members)

    @property
    def tells_solutions(self) -> bool:
        return any(verifier.tells_solutions for verifier, _ in self.members)

    @property
    def described(self) -> str:
        return ", ".join(verifier.described for verifier, _ in self.members if verifier.is_own_code)

    @property
    def is_own_code(self) -> bool:
        return any(verifier.is_own_code for verifier, _ in self.members)

    @property
    def grading_options(self) -> Mapping[str, Any]:
        """Those of the members, by their names."""
        return {member.name: dict(member.grading_options) for member, _ in self.members if member.grading_options}

    def verdicts(self, batch: GradingBatch) -> list[Verdict]:
        """The weighted sums, with what the first verifier that reads an answer extracted, and who could not score."""
        each = [graded(member, batch) for member, _ in self.members]
        return [self._sum(verdicts) for verdicts in zip(*each, strict=True)]

    def parts(
        self, completions: Sequence[str], answers: Sequence[str], num_tokens: Sequence[int] | None = None
    ) -> dict[str, list[float | None]]:
        """Every verifier's own scores by its name, unweighted: what a log should show."""
        verdicts = self.grade(completions, answers, num_tokens)
        names = [verifier.name for verifier, _ in self.members]
        return {name: [verdict.parts[index][1] for verdict in verdicts] for index, name in enumerate(names)}

    def _sum(self, verdicts: Sequence[Verdict]) -> Verdict:
        mode = next((verdict.mode for verdict in verdicts if verdict.mode is not None), None)
        parts = tuple(
            (verifier.name, verdict.score) for (verifier, _), verdict in zip(self.members, verdicts, strict=True)
        )
        read = next((verdict for verdict in verdicts if verdict.how), verdicts[0])
        silent = next(
            ((name, verdict) for (name, _), verdict in zip(parts, verdicts, strict=True) if verdict.score is None), None
        )
        if silent is not None:
            name, verdict = silent
            reason = f"{name}: {verdict.reason or 'no reason given'}"
            return Verdict(None, read.extracted, read.how, reason, verdict.detail, parts, mode=mode)
        total = sum(weight * (score or 0.0) for (_, weight), (_, score) in zip(self.members, parts, strict=True))
        faulty = next(
            ((name, verdict) for (name, _), verdict in zip(parts, verdicts, strict=True) if verdict.is_ungradable), None
        )
        if faulty is None:
            return Verdict(total, read.extracted, read.how, parts=parts, mode=mode)
        name, verdict = faulty
        return Verdict(total, read.extracted, read.how, f"{name}: {verdict.reason}", verdict.detail, parts, mode=mode)
