"""The script that counts what can be counted of our English."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "prose.py"
PAGE = """\
# A heading is no sentence

Set `alpha` to 0.1. You can resume any run: the state is in the checkpoint! What it
divides by is a constant.

- Run it again.
- The loss is a mean, e.g. over tokens, and was mended.

| a table | is none |
|---|---|

```bash
relax train --with words
```

> Nor is a quotation.
"""


@pytest.fixture(scope="module")
def prose() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_sentences_of_paragraphs_and_items(prose: dict[str, Any]) -> None:
    assert list(prose["sentences"](PAGE)) == [
        "Set X to 0.1.",
        "You can resume any run: the state is in the checkpoint!",
        "What it divides by is a constant.",
        "Run it again.",
        "The loss is a mean, e.g. over tokens, and was mended.",
    ]


def test_counts(prose: dict[str, Any]) -> None:
    counted = prose["measure"]([PAGE])
    assert (counted.num_sentences, counted.num_to_reader, counted.num_free_relatives) == (5, 3, 1)
    assert counted.share_to_reader == 0.6
    assert counted.plainer == ("mended",)
    assert counted.num_long == 0
    assert prose["measure"](["word " * 31 + "ends."]).num_long == 1
    assert prose["measure"]([""]).share_to_reader == 0.0


def test_what_is_left_to_fix_is_named_with_its_line(prose: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Run it anew.\n", "utf-8")
    (tmp_path / "docs" / "guides").mkdir(parents=True)
    (tmp_path / "docs" / "guides" / "one.md").write_text("The run is here. The loss is a mean.\n", "utf-8")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text(
        'told = 1\n"""A module.\n\nAttributes:\n    seed: of the draw.\n"""\nraise DataError("mend it")\n', "utf-8"
    )
    assert list(prose["faults"](tmp_path)) == [
        "README.md:1: 'anew'",
        "docs/guides/one.md: addresses its reader in 0.0% of its sentences, less than 8%",
        "src/code.py:2: 1 line(s) of a docstring begin with a bare 'of'",
        "src/code.py:7: 'mend' in an error",
        "src/code.py:1: the identifier 'told'",
    ]


def test_a_clause_in_place_of_a_noun_is_found_and_a_question_is_none(prose: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("", "utf-8")
    (tmp_path / "src").mkdir()
    text = (
        '"""What a run leaves."""\n'
        'def f(a, b, c):\n    """Add. It returns: what is asked.\n\n    what: that is a sentence, and no entry.\n\n'
        "    Args:\n        a: what is added.\n        b: the summand, that is, a number.\n        c, d: where it is.\n"
        '            what: that goes on here.\n    """\n'
        'def g():\n    """Which modes are there?"""\n'
        'def whatever():\n    """Whether it is so. What else?"""\n'
    )
    (tmp_path / "src" / "code.py").write_text(text, "utf-8")
    found = [line for line in prose["faults"](tmp_path) if "clause" in line]
    assert found == [f"src/code.py:{line}: a clause in place of a noun" for line in (1, 8, 10)]
