"""HTML that is safe by construction: whatever is not `Html` already is escaped.

A page shows text that a model wrote, which is hostile until proven otherwise; so the one way to make markup escapes its
children and its attribute values, and nothing else in this package writes an angle bracket.
"""

from __future__ import annotations

import html
import unicodedata

__all__ = ["Html", "element", "join"]

_VOID = frozenset({"br", "hr", "img", "meta"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str | int) -> Html:
    """An element with its children; plain strings are escaped.

    Args:
        attributes: with a trailing or inner underscore as Python needs it (``class_``, ``aria_label``).
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escape(str(value))}"' for name, value in attributes.items()
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: tuple[str, ...] | list[str]) -> Html:
    """Children one after another, escaped unless they are markup."""
    return Html("".join(child if isinstance(child, Html) else _escape(child) for child in children))


def _escape(text: str) -> str:
    # HTML knows no control characters and UTF-8 no lone surrogates; a reader should see that a model wrote one.
    visible = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text)
    return html.escape(visible, quote=True)
