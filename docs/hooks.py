"""Fills in parts of the pages from other files, so that they exist only once.

A page asks for them with a comment on a separate line:

    <!-- recipes: mmgcn +official_code -->                a table of recipes and additions, with what they are
    <!-- figures: mmgcn_text@text mmgcn+demo -->          their rows in all tables of benchmarks/results_meld_text.md
    <!-- code: pipeline/merc/errors.py BadTable -->       a function, or a class without its methods
    <!-- lines: pipeline/merc/errors.py exit_code -->     the lines of a file that match a regular expression

A request for something that does not exist fails the build, and so does a page that would load anything from another
machine.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results_meld_text.md"
RECIPES = ROOT / "pipeline" / "merc" / "training" / "recipes"
# The tables of the results, by the comment at their start.
TABLES = {
    "frozen": "MiniLM frozen",
    "frozen_more": "MiniLM frozen",
    "adapted": "MiniLM fine-tuned on MELD's train labels (`adapted`)",
    "demonstration": "demonstration corpus, three modalities",
}
_FIGURES = ("dev weighted F1", "test weighted F1", "test accuracy", "parameters")
_WORDS = {"lines": 1}  # the rest is one regular expression, including spaces
_ASKED = re.compile(r"^<!-- (recipes|figures|code|lines): (.+?) -->$", re.MULTILINE | re.DOTALL)
_FOREIGN = re.compile(
    r"<(?:script|img|iframe|video|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b(?![^>]*rel=\"canonical\")[^>]*\bhref=\"(?:https?:)?//"
)


def on_page_markdown(markdown: str, **_more: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return filled(markdown)


def on_post_page(output: str, page: Any, **_more: Any) -> str:
    """Called by mkdocs with the HTML of each page.

    Raises:
        ValueError: if it would load something from another machine.
    """
    found = _FOREIGN.search(output)
    if found:
        raise ValueError(f"{page.file.src_path} would load something from elsewhere: {found.group()}")
    return output


def filled(markdown: str) -> str:
    """The text of a page with everything that it asks for filled in.

    Raises:
        LookupError: if something does not exist.
    """
    return _ASKED.sub(lambda asked: _MAKERS[asked[1]](*asked[2].split(maxsplit=_WORDS.get(asked[1], -1))), markdown)


def results(table: str) -> tuple[list[str], dict[str, list[str]]]:
    """A table of the results: its head, and recipe → cells."""
    text = RESULTS.read_text(encoding="utf-8").split(f"<!-- begin {table} -->")[1].split(f"<!-- end {table} -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[0], {row[0]: row for row in rows[2:]}


def _recipes(*names: str) -> str:
    lines = ["| recipe | what it is |", "| --- | --- |"]
    for name in names:
        path = RECIPES / "additions" / f"{name[1:]}.yaml" if name.startswith("+") else RECIPES / f"{name}.yaml"
        lines.append(f"| `{name}` | {yaml.safe_load(path.read_text(encoding='utf-8'))['about']} |")
    return "\n".join(lines)


def _figures(*names: str) -> str:
    head = ["recipe", "features", *_FIGURES]
    rule = ["---", "---", *["---:"] * len(_FIGURES)]
    lines = list(_rows(names))
    lost = [name for name in names if not any(line.startswith(f"| `{name}` |") for line in lines)]
    if lost:
        raise LookupError(f"{RESULTS.name} has no row of {', '.join(lost)}")
    return "\n".join([f"| {' | '.join(head)} |", f"| {' | '.join(rule)} |", *lines])


def _rows(names: tuple[str, ...]) -> Iterator[str]:
    for table, features in TABLES.items():
        head, rows = results(table)
        for name in names:
            if name in rows:
                cells = dict(zip(head, rows[name], strict=True))
                wanted = (cells[key] for key in _FIGURES)
                yield f"| `{name}` | {features} | {' | '.join(wanted)} |"


def _code(path: str, name: str) -> str:
    source = (ROOT / path).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            lines = source.splitlines()[node.lineno - 1 : _end_of_fields(node)]
            return f'```python title="{path}"\n' + "\n".join(lines).rstrip() + "\n```"
    raise LookupError(f"{path} defines no {name}")


def _end_of_fields(node: ast.ClassDef | ast.FunctionDef) -> int:
    """The last line to show; for a class, the one before its first method."""
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    if isinstance(node, ast.FunctionDef) or not methods:
        return node.end_lineno or node.lineno
    return min(one.lineno for first in methods[:1] for one in (first, *first.decorator_list)) - 1


def _lines(path: str, pattern: str) -> str:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    found = [line.strip() for line in lines if re.search(pattern, line)]
    if not found:
        raise LookupError(f"no line of {path} holds {pattern}")
    return f'```python title="{path}"\n' + "\n".join(found) + "\n```"


_MAKERS: dict[str, Callable[..., str]] = {"recipes": _recipes, "figures": _figures, "code": _code, "lines": _lines}
