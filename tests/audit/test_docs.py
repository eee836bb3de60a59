"""The page on the audit names all its columns, thresholds and numbers, and none that do not exist."""

import re
from pathlib import Path

from merc.audit.config import Config
from merc.audit.doubts import checks
from merc.records.audit import QUALITY, SCHEMA
from merc.shards.where import Condition

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_every_column_and_every_setting_is_named_and_exists() -> None:
    assert [name for name in SCHEMA.names if name != "utterance_id" and f"`{name}`" not in PAGE] == []
    assert set(re.findall(r"`audit\.([a-z_]+)`", PAGE)) - {"html", "parquet"} == set(Config.model_fields)


def test_the_thresholds_in_the_table_are_the_defaults() -> None:
    for check in checks(Config()):
        (line,) = [line for line in PAGE.splitlines() if re.match(rf"\| `{check.column}`", line)]
        cell = line.split("|")[3]
        assert [float(number) for number in re.findall(r"[\d.]+", cell)] == [
            bound for bound in (check.low, check.high) if bound is not None
        ]


def test_the_conditions_that_are_shown_are_conditions() -> None:
    shown = re.findall(r'--where "([^"]+)"', PAGE)
    assert len(shown) == 3
    for text in shown:
        Condition.parse(text, list(QUALITY))
