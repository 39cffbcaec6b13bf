"""The spectra of the steps of completions, and whether they tell right ones from wrong ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import ConfigError, DataError
from relax_rl.runs.files import write_whole
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.scored_completions import ScoredCompletion, drawn_completions, encoded, read_completions
from relax_rl.workflows.spectrum_checks import check_file
from relax_rl.workflows.spectrum_texts import Reading, problems_of

if TYPE_CHECKING:
    from relax_rl.spectra.probe import ProbeResult
    from relax_rl.spectra.segments import SegmentedCompletion
    from relax_rl.spectra.steps import SegmentRule

__all__ = ["SEGMENTS_FILE", "SegmentsResult", "spectrum_of_segments"]

SEGMENTS_FILE = "segments.json"


@dataclass(frozen=True)
class SegmentsResult:
    """The measurements, the texts, and the page.

    Attributes:
        completions: with their segments.
        probe: whether these tell right from wrong.
        source: the texts that were read, in a sentence.
    """

    completions: tuple[SegmentedCompletion, ...]
    probe: ProbeResult
    source: str
    page: Path | None = None


def spectrum_of_segments(
    model: Any,
    segments: str,
    reading: Reading | None = None,
    *,
    completions: str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> SegmentsResult:
    """Cut completions into steps, measure the spectrum of each, and probe whether the steps tell right from wrong.

    Args:
        model: reads the completions: a name, a folder, or a loaded model.
        segments: ``newline``, ``marker=TEXT``, ``entropy`` or ``entropy=SHARE``.
        reading: the task on which completions are drawn and graded, and how. None: 20 countdown problems.
        completions: a run, the folder of an evaluation, or a file with prompt, completion, score and problem id. None:
            the model writes them now.
        output: folder for ``segments.html``, ``segments.json`` and ``segments.csv``. None: nothing is kept on disk.
        overwrite: replace those that are there.
        command: words that do the same again, for the page.

    Raises:
        ConfigError: settings that do not fit together.
        DataError: completions that cannot be read, labels that are all equal, fewer than two problems, or a rule that
            cuts nothing.
        ModelError: a model that cannot be loaded.
        RunError: an output that is there already or cannot be written.
    """
    from relax_rl.spectra.probe import check_labels, probe_result
    from relax_rl.spectra.steps import SegmentRule

    say = on_progress or silent
    rule = SegmentRule.parse(segments)
    page = check_file(output, "segments.html", overwrite)
    reading = reading or Reading()
    _check(reading, completions)
    if completions is not None:
        scored, where = read_completions(Path(completions), reading)
        scored = _scored(scored, say)
        check_labels([each.is_right for each in scored], [each.problem.id for each in scored])
        name, loaded, tokenizer = reading.loading.load(model, say)
    else:
        problems, where = problems_of(reading)
        name, loaded, tokenizer = reading.loading.load(model, say)
        say(Progress("sampling", message=f"{name}: generating from {len(problems)} prompts"))
        scored = _scored(drawn_completions(loaded, tokenizer, problems, reading, name), say)
        where = f"{len(problems)} problems of {where}, {reading.words()}"
    say(Progress("measuring", message=f"{name}: reading {len(scored)} completions"))
    found = _segmented(loaded, tokenizer, scored, rule, reading, say)
    probe = probe_result(found, seed=reading.seed)
    source = f"{len(found)} completions of {where}, read by {name}; cut {rule.words()}."
    if page is None:
        return SegmentsResult(tuple(found), probe, source)
    _write(found, probe, page, {"model": name, "segments": segments, "source": source, "command": list(command)})
    return SegmentsResult(tuple(found), probe, source, page)


def _check(reading: Reading, completions: str | Path | None) -> None:
    if completions is not None and reading.prompts is not None:
        raise ConfigError("--prompts and --completions both say what to read; give one of them.")
    if reading.prompts is not None:
        raise ConfigError(
            "--prompts have no answers to grade completions by; name a task with --task, or completions that have "
            "scores with --completions."
        )
    if reading.text:
        raise ConfigError("--text reads what has no score; name completions that have one with --completions.")
    reading.check()


def _scored(found: list[ScoredCompletion], say: OnProgress) -> list[ScoredCompletion]:
    """Those that have a score."""
    kept = [each for each in found if each.score is not None]
    if len(kept) < len(found):
        say(Progress("measuring", message=f"{len(found) - len(kept)} completions left out, since they have no score"))
    if not kept:
        raise DataError(f"None of the {len(found)} completions has a score; score them first.")
    return kept


def _segmented(
    model: Any,
    tokenizer: Any,
    scored: Sequence[ScoredCompletion],
    rule: SegmentRule,
    reading: Reading,
    say: OnProgress,
) -> list[SegmentedCompletion]:
    """The completions that are long enough, cut and measured; states are in memory for a batch at a time."""
    from relax_rl.evaluation.texts import token_pieces
    from relax_rl.spectra.segments import SegmentedCompletion, segment_spectra
    from relax_rl.spectra.steps import LEAST_TOKENS, cut

    pairs = [encoded(each, tokenizer, reading) for each in scored]
    long = [place for place, (_, ids) in enumerate(pairs) if len(ids) >= LEAST_TOKENS]
    if len(long) < len(scored):
        left = len(scored) - len(long)
        say(Progress("measuring", message=f"{left} completions left out: shorter than {LEAST_TOKENS} tokens"))
    if not long:
        raise DataError(f"Every completion is shorter than {LEAST_TOKENS} tokens; a segment needs as many.")
    scored, pairs = [scored[place] for place in long], [pairs[place] for place in long]
    _check_context(model, pairs, scored)
    pieces = [token_pieces(tokenizer, ids) for _, ids in pairs]
    threshold = float("inf")
    if rule.kind == "entropy":  # a pass of its own: the threshold is over all of them
        threshold = rule.threshold([entropy.tolist() for _, entropy, _ in _read(model, pairs)])
    found: dict[int, SegmentedCompletion] = {}
    for row, entropy, states in _read(model, pairs):
        parts = cut(rule, pieces[row], entropy.tolist(), threshold)
        found[row] = SegmentedCompletion(
            problem_id=scored[row].problem.id,
            is_right=scored[row].is_right,
            texts=tuple("".join(pieces[row][start:end]) for start, end in parts),
            segments=tuple(segment_spectra(states, entropy, parts)),
            mean_state=states.double().mean(0),
        )
    if all(len(each.segments) == 1 for each in found.values()):
        raise DataError(
            f"No completion was cut {rule.words()}: each is one segment of at least {LEAST_TOKENS} tokens; choose "
            "another rule for --segments, or longer completions."
        )
    return [found[row] for row in range(len(pairs))]


def _read(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[int, Any, Any]]:
    """Row, entropy (T,) and states after the final norm (T, H) of each completion, in no particular order."""
    import torch

    from relax_rl.evaluation.replay import replay

    with torch.no_grad():
        for batch in replay(model, [prompt for prompt, _ in pairs], [ids for _, ids in pairs]):
            for place, row in enumerate(batch.rows):
                kept = batch.mask[place]
                yield row, batch.entropy[place][kept].cpu(), batch.hidden_states[place][kept].float().cpu()


def _check_context(
    model: Any, pairs: Sequence[tuple[list[int], list[int]]], scored: Sequence[ScoredCompletion]
) -> None:
    from relax_rl.latent.contract.architecture import context_length

    context = context_length(model.config)
    lengths = [len(prompt) + len(ids) for prompt, ids in pairs]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    if context is not None and lengths[longest] > context:
        raise ConfigError(
            f"A completion of '{scored[longest].problem.id}' has {lengths[longest]:,} tokens with its prompt, but the "
            f"model has a context of {context:,}; leave it out."
        )


def _write(completions: Sequence[SegmentedCompletion], probe: ProbeResult, page: Path, about: dict[str, Any]) -> None:
    from relax_rl.reports.spectra.segments import SEGMENT_COLUMNS, segment_rows, write_segments_page

    write_segments_page(completions, probe, about["source"], about["command"], page)
    content = about | {
        "probe": probe.to_dict(),
        "completions": [
            {
                "problem": each.problem_id,
                "right": each.is_right,
                "tokens": each.num_tokens,
                "segments": [asdict(segment) for segment in each.segments],
            }
            for each in completions
        ],
    }
    write_whole(page.with_suffix(".csv"), csv_text(SEGMENT_COLUMNS, segment_rows(completions)))
    write_whole(page.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
