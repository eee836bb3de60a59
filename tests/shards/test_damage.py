"""Damaged shards, and records of an unexpected shape, end every command that reads them with a sentence and an exit
code, never with a traceback.
"""

import json
import random
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner

from merc import files, parquet
from merc.commands.report import main as report
from merc.commands.shards import main as shards
from merc.log import logger
from merc.shards.card.writing import write_card

CASES = 20
VALUES: list[Any] = [
    None,
    7,
    -1,
    1e300,
    True,
    "text",
    "",
    [],
    [1],
    {},
    {"a": 1},
    [[[[[[]]]]]],
    {"a": {"b": {"c": [None]}}},
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Restores the log for other tests."""
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def commands(root: Path, sound: Path, out: Path) -> dict[str, tuple[Any, list[str]]]:
    """Every command that reads shards, on those in ``root``."""
    other = out / "other"  # from another corpus, so that the two can be merged
    shutil.copytree(sound, other)
    files.write_json(other / "meta" / "info.json", files.read_json(other / "meta" / "info.json") | {"corpus": "other"})
    given = {
        "inspect": [root],
        "validate": [root],
        "diff": [root, sound],
        "select": [root, out / "part", "--split", "train"],
        "merge": [root, other, "--prefix", "--out", out / "whole"],
        "join": [root, sound, "--modalities", "text", "--out", out / "both"],
        "export": [root, out / "file.pkl", "--format", "mmgcn"],
        "neighbours": ["train/dia0", "--shards", root, "--similarity", "edit"],
    }
    found: dict[str, tuple[Any, list[str]]] = {
        name: (shards, [name, *map(str, options)]) for name, options in given.items()
    }
    settings = out / "report.yaml"
    settings.write_text("report:\n  similarity: edit\n")
    told = [
        "--out",
        str(root.parents[1]),
        "--runs",
        str(out / "runs"),
        "--reports",
        str(out / "reports"),
        "--params",
        str(settings),
    ]
    return found | {"report": (report, told)}


def fault(command: tuple[Any, list[str]]) -> str:
    """The traceback of a command; empty if it ends properly."""
    result = CliRunner().invoke(*command)
    error = result.exception
    if error is None or (isinstance(error, SystemExit) and error.code in (0, 1, 2, 4)):
        return ""
    return "".join(traceback.format_exception(error))


def damaged(path: Path, rng: random.Random) -> str:
    """Changes a file in place, and says how."""
    content = bytearray(path.read_bytes())
    how = rng.choice(["cut", "bytes", "footer", "zeros"])
    if how == "cut":
        content = content[: rng.randrange(len(content))]
    elif how == "zeros":
        start = rng.randrange(len(content))
        content[start : start + 64] = bytes(len(content[start : start + 64]))
    else:
        footer = int.from_bytes(content[-8:-4], "little") + 8
        start = len(content) - footer if how == "footer" else 0
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(start, len(content))] = rng.randrange(256)
    path.write_bytes(bytes(content))
    return f"{path.name}: {how}"


def strange(path: Path, rng: random.Random) -> str:
    """Rewrites a table, intact, with one column of another type, with other values, or missing, and says which."""
    table = parquet.read(path)
    index = rng.randrange(table.num_columns)
    name, column, rows = table.schema.names[index], table.column(index), table.num_rows
    how = rng.choice(["dropped", "nulls", "numbers", "strings", "lists", "other values", "short lists", "empty table"])
    if how == "dropped":
        table = table.drop_columns([name])
    elif how == "empty table":
        table = table.slice(0, 0)
    else:
        table = table.set_column(index, name, _column(how, column.to_pylist(), column.type, rows, rng))
    parquet.write(path, table)
    return f"{path.name}: {how} in {name}"


def _column(how: str, values: list[Any], kind: pa.DataType, rows: int, rng: random.Random) -> pa.Array:
    if how == "nulls":
        return pa.nulls(rows, kind)
    if how in ("numbers", "strings", "lists"):
        one = {"numbers": 7, "strings": "text\x1b[2J", "lists": [["a"]]}[how]
        return pa.array([one] * rows)
    if how == "short lists":
        return pa.array([value[1:] if isinstance(value, list) else value for value in values], kind)
    return pa.array([_other(value, rng) for value in values], kind)


def _other(value: Any, rng: random.Random) -> Any:
    """A value of the same type without meaning."""
    if isinstance(value, list):
        return [_other(one, rng) for one in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([99, -7])
    return "\x1b]0;owned\x07" if isinstance(value, str) else float("nan") if isinstance(value, float) else value


@pytest.mark.parametrize("change", [damaged, strange])
@pytest.mark.parametrize("seed", range(CASES))
def test_damaged_tables_and_such_of_another_shape_are_reported(
    sound: Path, tmp_path: Path, seed: int, change: Callable[[Path, random.Random], str]
) -> None:
    rng = random.Random(seed)
    root = tmp_path / "damaged" / "tiny" / "shards"
    shutil.copytree(sound, root)
    path = rng.choice(sorted(root.rglob("*.parquet")))
    how = change(path, rng)
    name, command = rng.choice(list(commands(root, sound, tmp_path).items()))
    assert not (found := fault(command)), f"{name}, {path.parent.name}/{how}:\n{found}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from places(below, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value in one place."""
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return copy


@pytest.mark.parametrize("seed", range(CASES))
def test_records_of_another_shape_are_reported(sound: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = tmp_path / "damaged" / "tiny" / "shards"
    shutil.copytree(sound, root)
    path = root / "meta" / rng.choice(["info.json", "info.json", "stats.json", "manifest.json"])
    content = files.read_json(path)
    place, new = rng.choice(list(places(content))), rng.choice(VALUES)
    path.write_text(json.dumps(replaced(content, place, new)))
    name, command = rng.choice(list(commands(root, sound, tmp_path).items()))
    assert not (found := fault(command)), f"{name}, {path.name}: {place} is {new!r}:\n{found}"


def test_sound_shards_are_read_by_all_of_these_commands(sound: Path, tmp_path: Path) -> None:
    """Shows that the refusals above are due to the damage."""
    root = tmp_path / "good" / "tiny" / "shards"
    shutil.copytree(sound, root)
    for name, command in commands(root, sound, tmp_path).items():
        assert CliRunner().invoke(*command).exit_code == 0, name


HOSTILE = "<script>|`x`\x1b]0;owned\x07\x9b2J\u202e\nnext"
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_what_acts_on_a_terminal_or_a_page_is_shown_instead(sound: Path, tmp_path: Path) -> None:
    root = tmp_path / "hostile" / "tiny" / "shards"
    shutil.copytree(sound, root)
    info = json.loads((root / "meta" / "info.json").read_text().replace('"joy"', json.dumps(HOSTILE)))
    info |= {"label_set": HOSTILE, "source": HOSTILE, "deviations": [HOSTILE], "corpus": HOSTILE}
    info["encoders"]["text"] |= {"name": HOSTILE, "licence": HOSTILE, "revision": HOSTILE}
    files.write_json(root / "meta" / "info.json", info)
    for path in sorted(root.rglob("*.parquet")):
        table = parquet.read(path)
        texts = [
            name
            for name in table.schema.names
            if name in ("corpus", "texts", "speakers", "sentiments", "detail", "scenario")
        ]
        for name in texts:
            column = pa.array([_hostile(value) for value in table[name].to_pylist()], table.schema.field(name).type)
            table = table.set_column(table.schema.names.index(name), table.schema.field(name), column)
        parquet.write(path, table)
    write_card(root)
    for name, (command, options) in commands(root, sound, tmp_path).items():
        result = CliRunner().invoke(command, options)
        assert isinstance(result.exception, SystemExit | None), name
        colours = click.unstyle(result.output) if name == "neighbours" else result.output  # of ours
        assert not ACTS.search(colours), name
        if name in ("inspect", "report", "neighbours"):
            assert result.exit_code == 0, result.output
    for path in (root / "README.md", root / "croissant.json", *tmp_path.rglob("*.html"), *tmp_path.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert not ACTS.search(text), path
        assert "<script>" not in text.replace("\\<script\\>", "") or path.suffix == ".json", path
    assert r"\<script\>\|\`x\`\\x1b\]0;owned" in (root / "README.md").read_text(encoding="utf-8")


def _hostile(value: Any) -> Any:
    return [_hostile(one) for one in value] if isinstance(value, list) else HOSTILE
