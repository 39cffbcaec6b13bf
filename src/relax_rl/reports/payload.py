"""Data and scripts in a page: data that cannot end their element, scripts that the policy knows by their hash."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from relax_rl.reports.markup import Html

__all__ = ["data_element", "rounded", "script_element", "script_hash", "style_text"]

_SCRIPTS = (
    *("uplot.min.js", "base.js", "curves.js", "modes.js", "plane.js", "tables.js", "completions.js"),
    *("live.js", "main.js"),
)
_STYLES = ("uplot.min.css", "style.css")


def data_element(data: Mapping[str, Any]) -> Html:
    """The data of a page, as JSON in an element that no browser runs."""
    # json escapes everything beyond ASCII; of ASCII, < and > could end the element, & is for readers of XHTML.
    text = json.dumps(_plain(data), allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="report-data">{text}</script>')


def script_element() -> Html:
    """The page's scripts: uPlot, and our own in one function, so that they leave no global names."""
    return Html(f"<script>{_script()}</script>")


def script_hash() -> str:
    """The scripts' hash for a Content-Security-Policy: nothing else in the page can run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_script().encode("utf-8")).digest()).decode("ascii")


def style_text() -> str:
    """The style sheets of the page."""
    return "\n".join(_asset(name) for name in _STYLES)


def rounded(value: Any) -> float | None:
    """A number to five digits, enough for any screen; None for what is not a finite number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _script() -> str:
    library, *own = (_asset(name) for name in _SCRIPTS)
    return library + "\n(() => {\n'use strict';\n" + "\n".join(own) + "\n})();\n"


def _asset(name: str) -> str:
    return resources.files("relax_rl.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
