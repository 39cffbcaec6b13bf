"""Sentence-level dynamics of labelled texts, with any encoder or causal model as the embedder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_rl.comparison.tables import csv_text
from relax_rl.errors import DataError, ModelError
from relax_rl.remote_code import remote_code
from relax_rl.runs.files import write_whole
from relax_rl.tasks.files import file_rows
from relax_rl.workflows.loading import Loading
from relax_rl.workflows.progress import OnProgress, Progress, silent
from relax_rl.workflows.spectrum_checks import check_file

if TYPE_CHECKING:
    from torch import Tensor

    from relax_rl.spectra.sentences import LabelledText, SentenceResult

__all__ = ["SENTENCES_FILE", "SentencesResult", "read_labelled_texts", "spectrum_of_sentences"]

SENTENCES_FILE = "sentences.json"
_TEXTS = ("text", "completion", "response", "solution", "answer")
_LABELS = ("hallucinated", "is_hallucinated", "label")
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "hallucinated", "hallucination"), True),
    **dict.fromkeys(("0", "false", "no", "faithful", "factual"), False),
}
_BATCH = 32


@dataclass(frozen=True)
class SentencesResult:
    """The measurements, the texts that were left out, and the folder."""

    result: SentenceResult
    num_left_out: int
    file: Path | None = None
    page: Path | None = None


def read_labelled_texts(path: Path) -> tuple[list[LabelledText], int]:
    """The texts of a file with a column of text, one of labels and perhaps one of splits; and how many are too short.

    Raises:
        DataError: a file that cannot be read, or a row without text or label.
    """
    from relax_rl.spectra.sentences import SPLITS, LabelledText, split_sentences

    texts: list[LabelledText] = []
    short = 0
    for place, row in enumerate(file_rows(path)):
        text = next((row.columns[name] for name in _TEXTS if isinstance(row.columns.get(name), str)), None)
        if text is None:
            raise DataError(f"There is no text in {row.where}: it needs a column named {' or '.join(_TEXTS)}.")
        label = next((row.columns[name] for name in _LABELS if row.columns.get(name) is not None), None)
        kind = _WORDS.get(str(label).strip().lower())
        if kind is None:
            raise DataError(
                f"There is no label in {row.where}: it needs a column named {' or '.join(_LABELS)} with true (1, "
                "hallucinated) or false (0, faithful)."
            )
        split = row.columns.get("split")
        if split is not None and split not in SPLITS:
            raise DataError(f"The split in {row.where} is {split!r}; use one of {', '.join(SPLITS)}.")
        sentences = split_sentences(text)
        if len(sentences) < 3:
            short += 1
            continue
        texts.append(LabelledText(str(row.columns.get("id", f"row-{place + 1}")), sentences, kind, split))
    if not texts:
        raise DataError(f"No text in '{path}' has three sentences or more; a trajectory of sentences needs them.")
    if len({text.split is None for text in texts}) > 1:
        raise DataError(f"Some texts of '{path}' name their split and some do not; name all or none.")
    return texts, short


def spectrum_of_sentences(
    model: Any,
    texts: str | Path | Sequence[LabelledText],
    *,
    rank: int | None = None,
    miss_cost: float = 1.0,
    seed: int = 0,
    tokenizer: Any = None,
    dtype: str = "float32",
    revision: str | None = None,
    device_map: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> SentencesResult:
    """Embed every sentence by the model's mean final state and test the two-operator score of hallucination.

    Args:
        model: an encoder or a causal language model: a name, a folder, or a loaded one.
        texts: a file as in :func:`read_labelled_texts`, or the texts.
        rank, miss_cost, seed: see :func:`~relax_rl.spectra.sentences.sentence_result`.
        tokenizer, dtype, revision, device_map: see :func:`~relax_rl.workflows.spectrum.spectrum`.
        output: folder for ``sentences.html``, ``sentences.json`` and ``sentences.csv``. None: nothing is kept on disk.
        overwrite: replace those that are there.
        command: words that do the same again, for the page.

    Raises:
        DataError: texts that cannot be read, labels that are all equal, or one kind only in a split.
        ModelError: a model that cannot be loaded.
        RunError: an output that is there already or cannot be written.
    """
    from relax_rl.spectra.sentences import sentence_result, split_texts

    say = on_progress or silent
    file = check_file(output, SENTENCES_FILE, overwrite)
    given, short = read_labelled_texts(Path(texts)) if isinstance(texts, str | Path) else (list(texts), 0)
    split_texts(given, seed)  # before a model is loaded for nothing
    if short:
        say(Progress("sampling", message=f"{short} texts left out, since they have fewer than three sentences"))
    loaded, words = _embedder(model, Loading(tokenizer, dtype, revision, device_map), say)
    say(Progress("measuring", message=f"embedding {sum(len(text.sentences) for text in given)} sentences"))
    embeddings = _embed(loaded, words, given)
    found = sentence_result(given, embeddings, rank=rank, miss_cost=miss_cost, seed=seed)
    if file is None:
        return SentencesResult(found, short)

    from relax_rl.reports.spectra.sentences import SCORE_COLUMNS, write_sentences_page

    name = str(model) if isinstance(model, str | Path) else "model"
    named = texts if isinstance(texts, str | Path) else "those given"
    source = f"{len(given)} labelled texts of {named}, {sum(len(text.sentences) for text in given)} sentences."
    page = write_sentences_page(found, name, source, command, file.with_suffix(".html"))
    write_whole(file.with_suffix(".csv"), csv_text(SCORE_COLUMNS, found.scores))
    write_whole(file, json.dumps({"model": name, **found.to_dict()}, indent=1) + "\n")
    return SentencesResult(found, short, file, page)


def _embedder(model: Any, loading: Loading, say: OnProgress) -> tuple[Any, Any]:
    """The model and its tokenizer; an encoder, or a model without a head, is loaded without one."""
    from relax_rl.latent.encoders import is_encoder
    from relax_rl.training.models import load_tokenizer, model_config, model_location
    from relax_rl.workflows.loading import without_progress_bars

    if isinstance(model, str | Path):
        name, revision = str(model), loading.revision
        config = model_config(name, revision)
        heads = config.architectures or []
        is_headless = is_encoder(config) or (bool(heads) and all(head.endswith("Model") for head in heads))
        if config.is_encoder_decoder or (is_headless and "vision_config" in type(config).sub_configs):
            raise ModelError(
                f"{name} is of type '{config.model_type}', which has no one final state of a sentence; name an encoder "
                "or a causal model."
            )
        if is_headless:
            from transformers import AutoModel

            try:
                with without_progress_bars():
                    encoder = AutoModel.from_pretrained(
                        model_location(name), revision=revision, dtype=loading.dtype, **remote_code()
                    )
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ModelError(f"The encoder '{name}' cannot be loaded: {reason}; name another model.") from error
            return encoder.eval(), load_tokenizer(name, revision)
    _, loaded, words = loading.load(model, say)
    return loaded, words


def _embed(model: Any, tokenizer: Any, texts: Sequence[LabelledText]) -> list[Tensor]:
    """(S, H) of each text: the mean over the tokens of each sentence of the final state."""
    import torch

    from relax_rl.latent.capture import evaluation_mode
    from relax_rl.latent.contract.template import text_tokenizer

    words = text_tokenizer(tokenizer)
    flat = [sentence for text in texts for sentence in text.sentences]
    # Of like length together, so that little is padding; on the right, which changes nothing before it.
    order = sorted(range(len(flat)), key=lambda place: len(flat[place]))
    found: dict[int, Tensor] = {}
    backbone = getattr(model, "base_model", model)
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            ids = [words(flat[place], truncation=True)["input_ids"] or [0] for place in places]
            width = max(len(row) for row in ids)
            inputs = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=model.device)
            states = backbone(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
            means = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            found.update(zip(places, means.cpu(), strict=True))
    sizes = [len(text.sentences) for text in texts]
    return list(torch.stack([found[place] for place in range(len(flat))]).split(sizes))
