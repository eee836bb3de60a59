"""The pages in `docs/` name every plug-in, show commands that exist, and include only snippets that exist.
`make docs` checks their links.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from merc import errors, plugins
from merc.command_line import INTERRUPTED
from merc.commands import adapt, evaluate, extract, report, shards, train
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel
from merc.trajectories import similarity
from merc.trajectories.config import POOLED

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
COMMANDS: dict[str, click.Command] = {
    "merc-extract": extract.main,
    "merc-adapt": adapt.main,
    "merc-shards": shards.main,
    "merc-train": train.main,
    "merc-evaluate": evaluate.main,
    "merc-report": report.main,
}
IDS = [str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *PAGES]]


def _module(name: str) -> ModuleType:
    """Imports a module of the documentation's build, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"documentation_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = _module("hooks")


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags only mkdocs knows."""


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for one in nav if isinstance(nav, list) else nav.values():
            yield from _named(one)


def _shown(text: str) -> Iterator[list[str]]:
    """The words of every line with one of this project's commands in the code blocks of a page, without comments."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", "").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and words[0].startswith("merc-"):
                    yield words


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command, or subcommand, and the words after it."""
    command, rest = COMMANDS[words[0]], words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"{words[0]} has no command {rest[0]}"
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("page", IDS)
def test_every_command_and_option_that_a_page_shows_exists(page: str) -> None:
    for words in _shown((ROOT / page).read_text(encoding="utf-8")):
        command, rest = _command(words)
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, " ".join(words)


@pytest.mark.parametrize("page", IDS)
def test_lines_are_at_most_120_columns_but_for_tables_and_drawings(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in PAGES])
def test_what_a_page_takes_from_elsewhere_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.search(r"<!-- (recipes|figures|code|lines):", HOOKS.filled(text))
    asked = [line.strip() for line in text.splitlines() if "--8" in line]
    for taken in (re.fullmatch(r'--8<-- "([^"]+)"', line)[1] for line in asked):  # type: ignore[index]
        assert (DOCS / taken).is_file() or (ROOT / taken).is_file(), taken


def test_every_page_is_in_the_navigation_once() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)  # noqa: S506
    assert sorted(_named(settings["nav"])) == sorted(str(path.relative_to(DOCS)) for path in PAGES)


@pytest.mark.parametrize("name", plugins.names("merc.training.models", MERCModel))
def test_every_model_is_described_on_a_page_of_a_system(name: str) -> None:
    assert any(
        f"::: merc.training.models.{name}\n" in path.read_text(encoding="utf-8")
        for path in (DOCS / "systems").glob("*.md")
    )


@pytest.mark.parametrize("name", plugins.names("merc.training.losses", MERCLoss))
def test_every_loss_is_in_the_table_of_losses_and_has_its_equations_on_a_page(name: str) -> None:
    assert f"`{name}`" in (DOCS / "losses.md").read_text(encoding="utf-8")
    assert any(f"::: merc.training.losses.{name}\n" in path.read_text(encoding="utf-8") for path in PAGES)


def test_every_base_recipe_is_in_the_table_of_systems() -> None:
    text = "\n".join(
        (DOCS / name).read_text(encoding="utf-8")
        for name in ("training.md", "systems/baseline.md", "systems/dialogue_transformer.md")
    )
    assert [
        path.stem for path in sorted(HOOKS.RECIPES.glob("*.yaml")) if not re.search(rf"[ `]{path.stem}[ `]", text)
    ] == []


def test_the_readme_is_a_front_page_of_at_most_120_lines_whose_figures_are_those_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    rows = re.findall(r"^\| .*?\]\(docs/systems/.*? \| `(.+?)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert len(rows) == len(plugins.names("merc.training.models", MERCModel))
    measured: dict[str, dict[str, str]] = {"frozen": {}, "adapted": {}}
    for table in ("frozen", "frozen_more", "adapted"):
        head, found = HOOKS.results(table)
        of_column = {name: dict(zip(head, cells, strict=True))["test weighted F1"] for name, cells in found.items()}
        measured[table.partition("_")[0]] |= of_column
    for recipe, *figures in rows:
        assert figures == [column.get(recipe, "–") for column in measured.values()], recipe


def test_the_readme_reads_a_shard_as_the_page_on_shards_does() -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    assert code in (DOCS / "shards.md").read_text(encoding="utf-8")


def test_the_files_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_figures_are_those_of_the_table_of_results() -> None:
    head, rows = HOOKS.results("frozen")
    cells = dict(zip(head, rows["mmgcn_text@text"], strict=True))
    filled = HOOKS.filled("<!-- figures: mmgcn_text@text -->")
    assert f"| {cells['dev weighted F1']} | {cells['test weighted F1']} | {cells['test accuracy']} |" in filled


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("<!-- figures: mmgcn_texts@text -->", "no row of mmgcn_texts@text"),
        ("<!-- code: pipeline/merc/errors.py Nothing -->", "defines no Nothing"),
        ("<!-- lines: pipeline/merc/errors.py zzz -->", "no line of"),
    ],
)
def test_what_is_not_there_fails_the_build(asked: str, words: str) -> None:
    with pytest.raises(LookupError, match=words):
        HOOKS.filled(asked)


def test_a_page_that_would_load_something_from_another_machine_fails_the_build() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_path="a.md"))
    assert HOOKS.on_post_page('<script src="assets/a.js"></script><a href="https://example.org">', page=page)
    with pytest.raises(ValueError, match=r"a\.md would load something from elsewhere"):
        HOOKS.on_post_page('<link rel="stylesheet" href="https://fonts.example/css">', page=page)


def test_equations_and_roles_of_docstrings_become_blocks_and_code() -> None:
    docstring = SimpleNamespace(
        value="A loss of :class:`~merc.Loss`:\n    a = ``b``\n\n- A point\n    that goes on.\n\nExample:\n    >>> 1"
    )
    _module("griffe_roles").Roles().on_object(obj=SimpleNamespace(docstring=docstring, is_module=True))
    assert (
        docstring.value
        == "A loss of `merc.Loss`:\n\n    a = `b`\n\n- A point\n    that goes on.\n\nExamples:\n    >>> 1"
    )


@pytest.mark.parametrize("package", ["merc.evaluation.protocols", "merc.evaluation.comparisons"])
def test_every_evaluation_has_a_row_on_its_page(package: str) -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "evaluation.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [name for name in plugins.names(package) if name not in rows] == []


def test_every_similarity_has_a_row_on_the_page_of_trajectories() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "trajectories.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(rows) == {*similarity.NAMES, POOLED}


def test_every_exit_code_has_a_section_of_troubleshooting() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    ]
    found = re.findall(r"^## (\d+): ", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [int(code) for code in found] == sorted({0, INTERRUPTED, *(kind.exit_code for kind in kinds)})
