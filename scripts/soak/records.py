"""What the soak has found, on disk as it is found, so that a soak that is stopped goes on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Outcome", "Records"]


@dataclass(frozen=True)
class Outcome:
    """How one scenario ended.

    Attributes:
        part, name: which.
        verdict: ``equal`` to the uninterrupted run, ``refused`` with one sentence, ``stopped`` in order, went on and
            ``told`` what happened, or ``WRONG``.
        words: what differs, or what was said.
        faults: how many of each kind were put in.
    """

    part: str
    name: str
    verdict: str
    words: str = ""
    faults: dict[str, int] = field(default_factory=dict)


class Records:
    """``outcomes.jsonl`` of a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.outcomes = [Outcome(**json.loads(line)) for line in lines]

    def has(self, part: str, name: str) -> bool:
        return any((outcome.part, outcome.name) == (part, name) for outcome in self.outcomes)

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")

    @property
    def num_wrong(self) -> int:
        return sum(outcome.verdict == "WRONG" for outcome in self.outcomes)

    def table(self) -> str:
        """By part: scenarios, faults, and how they ended; then each that went wrong."""
        lines = [
            "| Part | Scenarios | Faults | Equal | Refused | Stopped | Told | Wrong |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for part in dict.fromkeys(outcome.part for outcome in self.outcomes):
            of_part = [outcome for outcome in self.outcomes if outcome.part == part]
            faults = sum((Counter(outcome.faults) for outcome in of_part), Counter[str]())
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items())) or str(len(of_part))
            ends = Counter(outcome.verdict for outcome in of_part)
            counts = " | ".join(str(ends[verdict]) for verdict in ("equal", "refused", "stopped", "told", "WRONG"))
            lines.append(f"| {part} | {len(of_part)} | {told} | {counts} |")
        wrong = [o for o in self.outcomes if o.verdict == "WRONG"]
        return "\n".join([*lines, *(f"WRONG {o.part}, {o.name}: {o.words}" for o in wrong)])
