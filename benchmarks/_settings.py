"""Settings of a benchmark in a separate file, for all commands that it runs: a key that a command does not use is an
error in --set, but not in a file.
"""

import argparse
import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from merc import files

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def chosen(option: str, given: str, valid: Collection[str]) -> list[str]:
    """The names of a comma-separated option.

    Raises:
        SystemExit: with a message, if one is not valid.
    """
    names = [one.strip() for one in given.split(",")]
    for name in names:
        if name not in valid:
            raise SystemExit(f"{option}: no {name!r}; valid: {', '.join(valid)}")
    return names


def numbers(given: str) -> list[int]:
    """Comma-separated numbers.

    Raises:
        argparse.ArgumentTypeError: if one is not a number from 0 on.
    """
    parts = [one.strip() for one in given.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{given!r} is not numbers with commas between them")
    return [int(part) for part in parts]


def values_of(overrides: Iterable[str]) -> dict[str, Any]:
    """Dotted key → value, from KEY=VALUE arguments."""
    found = {}
    for one in overrides:
        key, equals, value = one.partition("=")
        if not equals:
            raise SystemExit(f"--set {one!r} is not of the form KEY=VALUE")
        found[key] = yaml.safe_load(value)
    return found


def settings_file(folder: Path, values: Mapping[str, Any]) -> Path:
    """The package's params.yaml with some values replaced, by dotted key, in a file named after its content, so that
    processes that share the folder don't see each other's.
    """
    tree = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in values.items():
        *above, last = key.split(".")
        block = tree
        for part in above:
            block = block.setdefault(part, {})
        block[last] = str(value) if isinstance(value, Path) else value
    text = yaml.safe_dump(tree, sort_keys=False)
    path = folder / f"params-{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    files.write_text(path, text)
    return path
