"""The user's own problems: any usual file, a folder that ``datasets`` saved, or a dataset on the Hugging Face Hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from relax_rl.errors import ConfigError, DataError
from relax_rl.rewards.base import Verifier
from relax_rl.rewards.extraction import extract_answer, read_gold
from relax_rl.rewards.mathematics.verifier import MathVerifier
from relax_rl.tasks.base import BaseTask, FindsTooLong, Problem, digest, in_order
from relax_rl.tasks.images.cells import cell_pictures, numbered_marks
from relax_rl.tasks.images.faults import fault_words, usable
from relax_rl.tasks.images.picture import Picture
from relax_rl.tasks.images.tables import is_picture
from relax_rl.tasks.layout import ANSWERS, PROMPTS, Layout, Named, layout_of
from relax_rl.tasks.review import parse_drop, question_key, reviewed, shared
from relax_rl.tasks.rows import LETTERS, Options, Row
from relax_rl.tasks.sources import Hub, SourceOfRows, source_of

__all__ = ["DataTask"]

NOT_HANDED_ON = ("image", "images", "id")
"""Columns that training would read as something else, and the name of a row."""
_LOG = logging.getLogger(__name__)
_LAST_DIGIT = re.compile(r"\d(?=\D*$)", re.ASCII)


@dataclass(frozen=True)
class DataTask(BaseTask):
    """Problems from ``path`` or from ``hub``, in the layouts of TRL, verl and plain tables.

    Splits. A mapping ``{"train": file, "test": file}``, a folder of files named by split and a dataset of the Hub have
    their own. One table alone is divided: a digest of the question puts ``test_share`` of it into ``test``, the rest
    into ``train``, so that a question that occurs twice is never in both; ``all`` is the whole table.

    Order. The file's for ``seed=0``; any other seed is another fixed order.

    What is guessed of the columns, and what `Review` finds, is said once, in the log.

    Args:
        path: see `relax_rl.tasks.sources.source_of`.
        hub: name of a dataset on the Hub, such as ``openai/gsm8k``.
        hub_config: its configuration, such as ``main``.
        hub_splits: our name of a split -> its name on the Hub; None: the same names.
        only: (column, text): the rows that have the text in this column, and no others.
        prompt_column: column of the question, as text or as messages; None: the first there is of `layout.PROMPTS`.
        answer_column: column of the gold answer; a dot reaches into a nested column. None: the first there is of
            `layout.ANSWERS`; ``""``: there is none, and a reward function does without.
        solution_column: column of a reference solution; None: ``solution``, if there is one; rows may lack it.
        options_column: column of the texts of a multiple-choice question; None: ``options`` or ``choices``, if there is
            one.
        image_column: column of the images of a row: paths that start from the file's folder, encoded bytes, or a column
            of the Hub; ``<image>`` or ``<image 1>`` in the prompt is where an image is shown. Rows whose image cannot
            be used are left out, named and counted. None: images are not read.
        id_column: column of the ids; None: ``id``, ``unique_id`` or ``problem_id``, if there is one.
        answer_after: the gold answer is what follows this mark in its column (``####`` in GSM8K, thousands commas
            dropped); the whole column is then the reference solution. None: ``####``, if all rows have it.
        first_option: the gold answer is the number of an option, and the first one has this number.
        columns: further columns that reward functions are given; None: all; ``[]``: none.
        drop: names of `review.DROPS` to leave out, as a list or with commas between them.
        max_prompt_characters: a longer prompt is counted as ``too_long``; None: no limit.
        test_share: share of a single table that is held out, from 0 to 1.
        system: system message of a chat model for rows without their own; None for none.
        prompt: template of the prompt for a model without a chat template.

    Raises:
        ConfigError: neither or both of ``path`` and ``hub``, a ``test_share`` out of range, a prompt without
            ``{problem}``, or a name in ``drop`` that there is not.
    """

    PROMPTS: ClassVar[Sequence[str]] = PROMPTS
    ANSWERS: ClassVar[Sequence[str]] = ANSWERS
    USUAL: ClassVar[Collection[str]] = ()
    """Columns that may be found without a word."""
    LEAVES_OUT_EMPTY: ClassVar[bool] = True
    """Rows without a gold answer are left out and counted; False: the first one is an error."""

    path: str | Path | Mapping[str, str | Path] | None = None
    hub: str | None = None
    hub_config: str | None = None
    hub_splits: Mapping[str, str] | None = None
    only: tuple[str, str] | None = None
    prompt_column: str | None = None
    answer_column: str | None = None
    solution_column: str | None = None
    options_column: str | None = None
    image_column: str | None = None
    id_column: str | None = None
    answer_after: str | None = None
    first_option: int | None = None
    columns: Sequence[str] | None = None
    drop: str | Sequence[str] = ()
    max_prompt_characters: int | None = None
    test_share: float = 0.1
    system: str | None = None
    prompt: str = "{problem}"
    name: str = "data"
    verifier: Verifier = field(default_factory=MathVerifier, compare=False, repr=False)
    is_known: bool = field(default=False, compare=False)
    """Its maker knows the rows: nothing is said of them on loading, and their ids are taken as they are."""
    _tables: dict[str, _Table] = field(default_factory=dict, init=False, compare=False, repr=False)
    _parts: dict[str, _Part] = field(default_factory=dict, init=False, compare=False, repr=False)
    _finds_too_long: list[FindsTooLong] = field(default_factory=list, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub is None):
            raise ConfigError(
                f"The task '{self.name}' needs either path= (a file or folder) or hub= (a dataset's name)."
            )
        if not 0 <= self.test_share <= 1:
            raise ConfigError(f"test_share is {self.test_share}; it is a share, from 0 to 1.")
        if "{problem}" not in self.prompt:
            raise ConfigError("The prompt template has no '{problem}', so every problem would get the same prompt.")
        parse_drop(self.drop)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of ``split`` in the order of ``seed``; None: all.

        Raises:
            DataError: a file, row, column or split that is not there or not readable, or fewer problems than asked.
        """
        is_new, part, source = split not in self._parts, self._part(split), self._source()
        if is_new and not self.is_known:
            seen = {name: other for name, other in self._parts.items() if name != split}
            for line in [*part.lines, *self._shared(split, seen)]:
                _LOG.warning("%s: %s.", source.of(split), line)
        ordered = in_order(part.problems, None, seed, source=source.of(split), split=split)
        if self.image_column is None:
            return in_order(part.problems, count, seed, source=source.of(split), split=split)
        faults: dict[int, str] = {}
        kept = usable(ordered, lambda problem: problem.pictures, count, faults)
        if (words := fault_words((ordered[place].id, why) for place, why in faults.items())) is not None:
            _LOG.warning("%s: %s.", source.of(split), words)
        return in_order(kept, count, 0, source=source.of(split), split=split)

    def remarks(self, split: str) -> list[str]:
        """Remarks on a split: guessed columns, what `Review` finds, and what other splits share with it."""
        part, source = self._part(split), self._source()
        others = () if source.is_whole else source.splits or ()
        return [*part.lines, *self._shared(split, {name: self._part(name) for name in others if name != split})]

    def fitting(self, too_long: FindsTooLong) -> BaseTask:
        """See `BaseTask.fitting`."""
        if "too_long" not in parse_drop(self.drop):
            return self
        task = replace(self)
        task._tables.update(self._tables)
        task._finds_too_long.append(too_long)
        return task

    def _part(self, split: str) -> _Part:
        if split not in self._parts:
            self._parts[split] = self._load(split)
        return self._parts[split]

    def _load(self, split: str) -> _Part:
        source = self._source()
        if source.splits is not None and split not in source.splits:
            if source.is_whole:
                raise DataError(f"A single file has the splits train, test and all; there is no '{split}'.")
            raise DataError(f"The task '{self.name}' has no split '{split}'; it has {', '.join(source.splits)}.")
        table = self._table("row" if source.is_whole else split, lambda: source.rows_of(split))
        halved = source.is_whole and split != "all"
        problems = [problem for problem in table.problems if not halved or self._half(problem) == split]
        if not problems:
            raise DataError(f"{source.of(split)} has no problem{self._wanted_words} in the split '{split}'.")
        drop, limit = parse_drop(self.drop), self.max_prompt_characters
        kept, review = reviewed(problems, self.verifier, drop, limit, table.without_gold)
        lines = [*table.notes, *review.lines]
        for finds in self._finds_too_long:
            long = set(finds(kept))
            kept = [problem for problem in kept if problem.id not in long]
            words = f"{len(long)} of the problems left out, whose prompt leaves the model no room for a completion"
            lines += [words] if long else []
        if not kept:
            raise DataError(f"{source.of(split)} has no problem left in the split '{split}': {'; '.join(lines)}.")
        return _Part(kept, lines)

    def _shared(self, split: str, others: Mapping[str, _Part]) -> list[str]:
        """A divided table shares nothing, since the question itself says which half it is in."""
        if self._source().is_whole:
            return []
        found = shared(self._part(split).problems, {name: part.problems for name, part in others.items()})
        return [
            f"{count} of the questions in the split '{split}' are in '{name}', too" for name, count in found.items()
        ]

    def _source(self) -> SourceOfRows:
        if self.hub is not None:
            return Hub(self.hub, self.hub_config, self.hub_splits)
        assert self.path is not None
        return source_of(self.path)

    def _half(self, problem: Problem) -> str:
        share = self._share(problem) / 2**64
        return "test" if share < self.test_share else "train"

    def _share(self, problem: Problem) -> int:
        return digest("data", "split", question_key(problem).hex())

    @property
    def _wanted_words(self) -> str:
        """The rows that are read, for errors."""
        return ""

    def _is_wanted(self, row: Row) -> bool:
        return self.only is None or self.only[1] in row.text(self.only[0])

    def _table(self, key: str, rows: Callable[[], Iterable[Row]]) -> _Table:
        """The problems of a table, before it is divided; ``key`` is a part of their ids."""
        if key not in self._tables:
            # Numbered before any is left out, so that a row has one name whatever else is chosen.
            numbered = [(f"{self.name}-{key}-{index}", row) for index, row in enumerate(rows())]
            self._tables[key] = self._read([(name, row) for name, row in numbered if self._is_wanted(row)])
        return self._tables[key]

    def _read(self, numbered: Sequence[tuple[str, Row]]) -> _Table:
        if not numbered:
            return _Table([], [], ())
        rows = [row for _, row in numbered]
        layout = layout_of(rows, self._named, self.PROMPTS, self.ANSWERS)
        ids, notes = self._ids(numbered, layout.id)
        guessed = {column for _, column in layout.guessed} - set(self.USUAL)
        if guessed:
            notes.insert(0, f"columns guessed: {layout.words}")
        problems, without_gold = [], []
        for row, identity in zip(rows, ids, strict=True):
            if self.LEAVES_OUT_EMPTY and layout.answer is not None and row.is_empty(layout.answer):
                without_gold.append(row.where)
            else:
                problems.append(self._problem(row, identity, layout))
        return _Table(problems, notes, tuple(without_gold))

    @property
    def _named(self) -> Named:
        return Named(
            prompt=self.prompt_column,
            answer=self.answer_column,
            solution=self.solution_column,
            options=self.options_column,
            identity=self.id_column,
            answer_after=self.answer_after,
        )

    def _ids(self, numbered: Sequence[tuple[str, Row]], column: str | None) -> tuple[list[str], list[str]]:
        """An id for each row, and what is to be said of them: its own, or its number where it has none."""
        numbers = [name for name, _ in numbered]
        if column is None:
            return numbers, []
        own = [str((row.has(column) and row.cell(column)) or name) for name, row in numbered]
        if len(set(own)) == len(own) or self.is_known:
            return own, []
        return numbers, [f"the ids in '{column}' are not unique, so that problems are called by their row"]

    def _problem(self, row: Row, identity: str, layout: Layout) -> Problem:
        asked, images = row.conversation(layout.prompt), self._images(row)
        options = Options() if layout.options is None else row.options(layout.options)
        gold, solution = self._gold(row, layout, options)
        # A question without its options cannot be answered.
        asked = replace(asked, question=options.below(asked.question))
        if images:
            asked = replace(asked, question=numbered_marks(asked.question))
        system = self.system if asked.system is None else asked.system
        return Problem(
            id=identity,
            prompt=self.prompt.replace("{problem}", asked.plain),
            answer=gold,
            system=system,
            instruction=asked.question,
            solution=_stated(solution, gold, keep=layout.answer_after is not None) if gold else None,
            mistake=f"\\boxed{{{_another(gold)}}}" if gold else None,
            options=options.texts,
            turns=asked.turns,
            columns=self._further(row, layout),
            images=images,
            interleaved=bool(images),
        )

    def _images(self, row: Row) -> tuple[Picture, ...]:
        if self.image_column is None:
            return ()
        name = f"the column '{self.image_column}' of {row.where}"
        return cell_pictures(row.cell(self.image_column), self._folder, name)

    @property
    def _folder(self) -> Path | None:
        """That relative paths of images start from."""
        if self.path is None or isinstance(self.path, Mapping):
            return None
        return Path(self.path) if Path(self.path).is_dir() else Path(self.path).parent

    def _gold(self, row: Row, layout: Layout, options: Options) -> tuple[str, str]:
        """The gold answer, and the reference solution; each may be empty."""
        if layout.answer is None:
            return "", ""
        gold, solution = _gold_text(row, layout.answer), ""
        if layout.solution is not None and row.has(layout.solution) and row.cell(layout.solution):
            solution = row.text(layout.solution)
        if layout.answer_after is not None:
            solution, mark, gold = gold, *gold.rpartition(layout.answer_after)[1:]
            if not mark or not gold.strip():
                raise DataError(f"There is no '{layout.answer_after}' in the column '{layout.answer}' of {row.where}.")
            gold = gold.replace(",", "").strip()
        return (self._letter(gold, row, layout, options) if options.texts else gold), solution

    def _letter(self, gold: str, row: Row, layout: Layout, options: Options) -> str:
        """The gold answer of a multiple-choice question: the letter where it is a label or a number of an option."""
        if self.first_option is None:
            letter = options.letter(gold)
            if letter is None and gold.isdecimal() and gold not in options.texts:
                raise DataError(
                    f"The column '{layout.answer}' in {row.where} holds {gold}, which is no option; if it counts the "
                    "options, say where it begins (--task.first_option 0, or 1)."
                )
            return letter or gold
        place = int(gold) - self.first_option if gold.isdecimal() else -1
        if not 0 <= place < len(options.texts):
            raise DataError(
                f"The column '{layout.answer}' in {row.where} holds {gold!r:.40}, which counts none of its "
                f"{len(options.texts)} options from {self.first_option} on."
            )
        return LETTERS[place]

    def _further(self, row: Row, layout: Layout) -> dict[str, Any]:
        """The columns that reward functions are given, under their own names."""
        if self.columns is not None:
            return {name: row.cell(name) for name in self.columns}
        left_out = (layout.prompt, self.image_column, *NOT_HANDED_ON)
        return {name: one for name, one in row.columns.items() if name not in left_out and not is_picture(one)}


@dataclass(frozen=True)
class _Table:
    """The problems of a table, what is to be said of it, and the places of rows without a gold answer."""

    problems: list[Problem]
    notes: list[str]
    without_gold: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """The problems of a split that are kept, and what is to be said of them."""

    problems: list[Problem]
    lines: list[str]


def _gold_text(row: Row, column: str) -> str:
    """The gold answer of a row as text: what is text or a number as it is, all else as `read_gold` reads it."""
    value = row.cell(column)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return row.text(column)
    gold = read_gold(value)
    if gold.text is None:
        keys = list(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else []
        how = f" (--task.answer_column {column}.{keys[0]})" if keys else ""
        raise DataError(f"The column '{column}' in {row.where} cannot be read: {gold.reason}{how}.")
    return gold.text


def _stated(solution: str, gold: str, *, keep: bool) -> str:
    """A completion that states the gold answer last: the reference solution, with a box of ours where it has none."""
    # A reference solution in prose may state more than its last answer; a box of ours is then the last word.
    found = extract_answer(solution)
    if found.text is None or (not keep and found.how != "boxed"):
        return f"{solution}\n\n\\boxed{{{gold}}}".strip()
    return solution


def _another(answer: str) -> str:
    """An answer of the same form and another value: the last digit is moved on, or there was none to move."""
    digit = _LAST_DIGIT.search(answer)
    if digit is None:
        return "-98765.4321"
    return f"{answer[: digit.start()]}{(int(digit[0]) + 1) % 10}{answer[digit.end() :]}"
