"""``merc-shards``: inspects, checks, compares, selects, joins, imports, exports and shares shards. Each file of this
folder is one command.
"""

import importlib
import pkgutil

import click

from merc import __version__
from merc.command_line import Group


class _Folder(Group):
    """The commands are the modules of this folder: each defines ``command``; a module named for a Python keyword ends
    in an underscore.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        modules = {module.name.rstrip("_"): module.name for module in pkgutil.iter_modules(__path__)}
        if cmd_name not in modules:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{modules[cmd_name]}").command
        return command


@click.command(cls=_Folder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """Inspect, validate, compare, select, join, import, export and share shards.

    \b
    Exit codes:
      0  done, no problems found            4  missing, or of another shape
      1  unexpected, or a check failed      5  the target holds something else
      2  usage or settings                  6  the hub refuses, or does not answer
                                            7  another process writes there
                                          130  interrupted
    """
