"""``--help`` of every command loads click and the declarations of the commands, but none of the libraries that do their
work.
"""

import json
import subprocess
import sys
from importlib import import_module

import pytest
from click.testing import CliRunner

import merc

_EVERY_HELP = """
import json, sys
before = set(sys.modules)
import click
from click.testing import CliRunner
from importlib import import_module

exit_codes, imported = {}, {}

def ask(root, command, words):
    exit_codes[" ".join(words)] = CliRunner().invoke(root, [*words[1:], "--help"]).exit_code
    imported[" ".join(words)] = sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
    for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []:
        ask(root, command.get_command(click.Context(command), name), [*words, name])

for module in ("extract", "shards", "train", "evaluate", "report", "adapt"):
    main = import_module(f"merc.commands.{module}").main
    ask(main, main, [f"merc-{module}"])
print(json.dumps([exit_codes, imported]))
"""  # noqa: E501


def test_help_of_every_command_imports_nothing_but_click() -> None:
    done = subprocess.run([sys.executable, "-c", _EVERY_HELP], capture_output=True, text=True, timeout=60, check=True)
    exit_codes, imported = json.loads(done.stdout)
    assert {
        "merc-extract",
        "merc-extract models",
        "merc-shards join",
        "merc-train show",
        "merc-train sweep",
        "merc-evaluate",
        "merc-report",
        "merc-adapt",
    } <= set(exit_codes)
    assert set(exit_codes.values()) == {0}
    assert {name: found for name, found in imported.items() if found != ["click", "merc"]} == {}


@pytest.mark.parametrize("name", ["extract", "shards", "train", "evaluate", "report", "adapt"])
def test_every_command_tells_its_version(name: str) -> None:
    shown = CliRunner().invoke(import_module(f"merc.commands.{name}").main, ["--version"])
    assert (shown.exit_code, shown.stdout.split()[-1]) == (0, merc.__version__)


@pytest.mark.parametrize(
    ("name", "mistyped", "meant"),
    [("extract", "modls", "models"), ("shards", "inspct", "inspect"), ("train", "swep", "sweep")],
)
def test_a_mistyped_subcommand_is_answered_with_the_nearest(name: str, mistyped: str, meant: str) -> None:
    refused = CliRunner().invoke(import_module(f"merc.commands.{name}").main, [mistyped])
    assert refused.exit_code == 2
    assert f"No such command '{mistyped}'; did you mean '{meant}'?" in refused.stderr


@pytest.mark.parametrize(
    ("name", "mistyped", "meant"),
    [("extract", "--datset", "--dataset"), ("train", "--recpie", "--recipe"), ("report", "--reprots", "--reports")],
)
def test_a_mistyped_option_is_answered_with_the_nearest(name: str, mistyped: str, meant: str) -> None:
    refused = CliRunner().invoke(import_module(f"merc.commands.{name}").main, [mistyped, "x"])
    assert refused.exit_code == 2
    assert f"No such option '{mistyped}'" in refused.stderr
    assert f"'{meant}'" in refused.stderr.partition("Did you mean")[2]
