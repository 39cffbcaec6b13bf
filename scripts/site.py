"""Write the sources of the documentation site into build/site: docs/, and reference pages from the package.

    python scripts/site.py                then, by `make site`, mkdocs build --strict

Pages are copied with fences that mkdocs reads and without links that leave the site; a notebook becomes a page.
Generated are a page for every package with its public names, and those of `reference_pages`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from notebooks import markdown, read_notebook
from reference_pages import PAGES

__all__ = ["PACKAGES", "public_names"]

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "site"
PACKAGES = (
    "relax_rl",
    *(
        f"relax_rl.{name}"
        for name in (
            "koopman", "estimators", "latent", "spectra", "objectives", "rewards", "tasks", "evaluation", "training",
            "comparison", "analysis", "statistics", "runs", "config", "errors", "stopping", "reports",
        )
    ),
)  # fmt: skip
PROJECT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_FENCE = re.compile(r"^(\s*`{3,})(\w+)[ ]+([^\n`]+)$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_SCHEME = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|#)", re.IGNORECASE)


def public_names(package: str) -> list[str]:
    """Where each name of a package's `__all__` is defined, as a dotted path."""
    module = importlib.import_module(package)
    found = []
    for name in getattr(module, "__all__", ()):
        if name.startswith("__"):
            continue
        value = getattr(module, name)
        home = getattr(value, "__module__", None)
        is_ours = isinstance(home, str) and home.startswith("relax_rl") and getattr(value, "__name__", "") == name
        found.append(f"{home if is_ours else package}.{name}")
    return found


def _fence(match: re.Match[str]) -> str:
    file = next((word[5:] for word in match[3].split() if word.startswith("file=")), None)
    return f"{match[1]}{match[2]}" + (f' title="{file}"' if file else "")


def _copied(path: Path, text: str) -> str:
    """A page for the site: links within it stay, of the others the words stay."""
    here = path.relative_to(ROOT).as_posix()
    target_of = {name: f"docs/project/{name}" for name in PROJECT}

    def link(match: re.Match[str]) -> str:
        if _SCHEME.match(match[3]):
            return match[0]
        name, mark, anchor = match[3].partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(here), name))
        target = target_of.get(target, target)
        target = re.sub(r"\.ipynb$", ".md", target)  # which notebooks become
        if not target.startswith("docs/") or Path(target).suffix not in (".md", ".png", ".svg"):
            return match[2]
        start = os.path.dirname(target_of.get(here, here))
        return f"{match[1]}[{match[2]}]({os.path.relpath(target, start)}{mark}{anchor})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(_FENCE.sub(_fence, part) if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _api_page(package: str) -> str:
    about = (importlib.import_module(package).__doc__ or "").strip().partition("\n\n")[0]
    names = public_names(package)
    listed = "".join(f"::: {name}\n\n" for name in names) or f"::: {package}\n"
    return f"# {package}\n\n{' '.join(about.split())}\n\n{listed}"


def _order() -> None:
    """The sections of the navigation: every page of the folder, by title."""
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    for section in ("notebooks", "guides", "reference", "research", "project"):
        pages = sorted(path.relative_to(OUT / "docs").as_posix() for path in (OUT / "docs" / section).rglob("*.md"))
        config = re.sub(rf"^(  - \w+): {section}$", rf"\1: {json.dumps(pages)}", config, flags=re.MULTILINE)
    config = config.replace("build/site/", "").replace("paths: [src]", f"paths: [{json.dumps(str(ROOT / 'src'))}]")
    (OUT / "mkdocs.yml").write_text(config, "utf-8")


def main() -> int:
    """Write the whole site again."""
    os.environ["COLUMNS"] = "100"
    shutil.rmtree(OUT, ignore_errors=True)
    sources = [*sorted((ROOT / "docs").rglob("*")), *(ROOT / name for name in PROJECT)]
    for path in sources:
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT / "docs") else Path("docs", "project", path.name)
        target = OUT / place
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                target.write_text(_copied(path, path.read_text("utf-8")), "utf-8")
            elif path.suffix == ".ipynb":
                page = markdown(read_notebook(path), target.with_suffix(""))
                target.with_suffix(".md").write_text(_copied(path, page), "utf-8")
            elif path.suffix in (".png", ".svg"):
                shutil.copyfile(path, target)
    reference = OUT / "docs" / "reference"
    (reference / "api").mkdir()
    for name, page_of in PAGES.items():
        (reference / f"{name}.md").write_text(page_of(), "utf-8")
    for package in PACKAGES:
        (reference / "api" / f"{package}.md").write_text(_api_page(package), "utf-8")
    _order()
    return 0


if __name__ == "__main__":
    sys.exit(main())
