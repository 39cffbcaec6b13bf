"""What the policy said last, and whether its prompt had opened a thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relax_rl.rewards.extraction.thoughts import thought_marks

__all__ = ["LastTurn", "conversation_text", "last_turn", "opened_thought"]

# Longer than any marker with the white space behind it.
_MARKER_CHARS = 200
# Where parsers of responses put a thought that they take out of the content.
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought")


@dataclass(frozen=True)
class LastTurn:
    """The part of a completion that a verifier reads.

    Attributes:
        text: the words of the assistant's last message; empty if another role has the last word.
        is_past_thought: the message keeps its thought in a field of its own, so that ``text`` begins behind it.
    """

    text: str
    is_past_thought: bool = False


def last_turn(completion: Any) -> LastTurn:
    """The last turn of a completion, whether TRL passes it as text or as a conversation.

    What a tool or a user says is no answer of the policy, and an answer that it gave before it called a tool is not
    its last word.
    """
    if isinstance(completion, str):
        return LastTurn(completion)
    if not completion or completion[-1].get("role", "assistant") != "assistant":
        return LastTurn("")
    message: Mapping[str, Any] = completion[-1]
    return LastTurn(_words(message), any(message.get(field) for field in _THOUGHT_FIELDS))


def conversation_text(completion: Any) -> str:
    """All words of a completion, of every role: for records."""
    return completion if isinstance(completion, str) else "".join(_words(message) for message in completion)


def opened_thought(prompt: str) -> str:
    """The marker of a thought that a rendered prompt ends in, with the white space behind it; "" for none.

    A completion of such a prompt begins inside the thought.
    """
    end = prompt[-_MARKER_CHARS:]
    marks = thought_marks(end)
    if not marks or marks[-1].is_closing or end[marks[-1].end :].strip():
        return ""
    return end[marks[-1].start :]


def _words(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)
