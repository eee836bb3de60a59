"""The page on inputs names exactly what exists: reasons, settings, columns, options and exit codes."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from merc import errors
from merc.command_line import INTERRUPTED
from merc.commands import adapt, evaluate, extract, report, shards, train
from merc.corpora.iemocap import Iemocap
from merc.corpora.meld import Meld
from merc.corpora.table import Table
from merc.job import RunConfig
from merc.media import tables
from merc.media.config import Config as MediaConfig
from merc.params import Settings
from merc.records.failures import REASONS
from merc.shards.format.schema import schema

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "inputs.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`]+)`", PAGE)
# A corpus with any name may have the settings of any reader.
READERS: dict[str, tuple[type[Settings], ...]] = {
    "<name>": (Table.Config, Meld.Config, Iemocap.Config),
    "meld": (Meld.Config,),
    "iemocap": (Iemocap.Config,),
}
SETTING = re.compile(r"(?:media|run|corpora|extraction|shards|trajectories)(?:\.(?:<name>|[a-z_]+))+")
SNAKE = re.compile(r"[a-z]+(?:_[a-z]+)+")


def _known(setting: str) -> bool:
    block, *keys = setting.split(".")
    if block == "corpora":
        holders: tuple[type[Settings], ...] = READERS[keys.pop(0)]
    else:
        holders = {"media": (MediaConfig,), "run": (RunConfig,)}[block]
    for key in keys:
        found = [holder.model_fields[key] for holder in holders if key in holder.model_fields]
        if not found:
            return False
        kinds = (field.annotation for field in found)
        holders = tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings))
    return True


def _options(command: click.Command) -> Iterator[str]:
    yield from (name for option in command.params for name in option.opts)
    if isinstance(command, click.Group):  # which may load its commands by name
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _options(command.get_command(context, name) or click.Command(name))


def _words(pattern: str) -> list[str]:
    return sorted({word for word in QUOTED if re.fullmatch(pattern, word)})


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_named_in_a_table_of_inputs_and_in_the_list_under_its_kind(reason: str) -> None:
    tables_of_inputs, listed = PAGE.split("## All reasons")
    of_encoders, listed = listed.split("| kind | reasons |")
    assert f"`{reason}`" in tables_of_inputs + of_encoders
    (line,) = [line for line in listed.splitlines() if f"`{reason}`" in line]
    assert line.startswith(f"| {REASONS[reason][0]} |")


@pytest.mark.parametrize("setting", _words(SETTING.pattern))
def test_every_setting_that_is_named_exists(setting: str) -> None:
    assert _known(setting)


@pytest.mark.parametrize("word", _words(SNAKE.pattern))
def test_every_reason_and_column_that_is_named_exists(word: str) -> None:
    assert word in {*REASONS, *tables.SCHEMA.names, *schema({}, {}, ()).names}


@pytest.mark.parametrize("option", sorted({word.split()[0] for word in QUOTED if word.startswith("--")}))
def test_every_option_that_is_named_exists(option: str) -> None:
    assert option in {
        name for module in (extract, train, adapt, evaluate, report, shards) for name in _options(module.main)
    }


def test_the_exit_codes_are_those_of_the_errors_and_each_is_explained() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    ]
    codes = {0, INTERRUPTED, *(kind.exit_code for kind in kinds)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)} == codes
    named = {int(code) for code in re.findall(r"exit (?:code )?(\d+)", PAGE)}
    assert named == {kind.exit_code for kind in kinds}


def test_every_row_has_as_many_cells_as_its_table() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE):
        assert len({line.replace(r"\|", "").count("|") for line in block.splitlines()}) == 1


def test_a_setting_that_does_not_exist_would_be_found() -> None:
    assert [
        _known(one)
        for one in ("media.audio_trakc", "corpora.<name>.columns.dialog", "corpora.meld.columns", "run.max_failed")
    ] == [False] * 3 + [True]
