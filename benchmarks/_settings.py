"""Settings of a benchmark in a separate file, for all commands that it runs: a key that a command does not use is an
error in --set, but not in a file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from merc import files
from merc.errors import BadSettings

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def values_of(overrides: Iterable[str]) -> dict[str, Any]:
    """Dotted key → value, from KEY=VALUE arguments."""
    found = {}
    for one in overrides:
        key, equals, value = one.partition("=")
        if not equals:
            raise BadSettings(f"--set {one!r} is not of the form KEY=VALUE")
        found[key] = yaml.safe_load(value)
    return found


def settings_file(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes the package's params.yaml with some values replaced, by dotted key."""
    tree = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in values.items():
        *above, last = key.split(".")
        block = tree
        for part in above:
            block = block.setdefault(part, {})
        block[last] = str(value) if isinstance(value, Path) else value
    files.write_text(path, yaml.safe_dump(tree, sort_keys=False))
    return path
