"""Damaged shards, and records of another shape, end every command that reads them with a sentence and an exit code, never with a traceback."""

import json
import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from merc import files, parquet
from merc.commands.report import main as report
from merc.commands.shards import main as shards
from merc.log import logger

CASES = 60
VALUES: list[Any] = [None, 7, -1, 1e300, True, "text", "", [], [1], {}, {"a": 1}, [[[[[[]]]]]], {"a": {"b": {"c": [None]}}}]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Other tests find the log as it was."""
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def commands(root: Path, sound: Path, out: Path) -> dict[str, tuple[Any, list[str]]]:
    """Every command that reads shards, on those in ``root``."""
    other = out / "other"  # of another corpus, so that the two can be merged
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
    found: dict[str, tuple[Any, list[str]]] = {name: (shards, [name, *map(str, options)]) for name, options in given.items()}
    settings = out / "report.yaml"
    settings.write_text("report:\n  similarity: edit\n")
    told = ["--out", str(root.parents[1]), "--runs", str(out / "runs"), "--reports", str(out / "reports"), "--params", str(settings)]
    return found | {"report": (report, told)}


def fault(command: tuple[Any, list[str]]) -> str:
    """The traceback that a command ends with; empty if it ends as it should."""
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
    """Writes a table again, whole, with one column of another type, with other values, or without it, and says which."""
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
    """Of the same type, and of no meaning."""
    if isinstance(value, list):
        return [_other(one, rng) for one in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([99, -7])
    return "\x1b]0;owned\x07" if isinstance(value, str) else float("nan") if isinstance(value, float) else value


@pytest.mark.parametrize("seed", range(CASES))
def test_damaged_tables_are_told(sound: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = tmp_path / "damaged" / "tiny" / "shards"
    shutil.copytree(sound, root)
    path = rng.choice(sorted(root.rglob("*.parquet")))
    how = damaged(path, rng)
    for name, command in commands(root, sound, tmp_path).items():
        assert not (found := fault(command)), f"{name}, {path.parent.name}/{how}:\n{found}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from places(below, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place."""
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return copy
