"""Common parts of the commands that push to the Hugging Face hub and pull from it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merc import log
from merc.command_line import OVERWRITE, WAIT
from merc.errors import BadSettings

if TYPE_CHECKING:
    from merc.exchange import Exchanged, Repository

REPOSITORY = click.argument("repository", metavar="OWNER/NAME")
VISIBILITY = click.option(
    "--private/--public",
    "private",
    default=None,
    help="Visibility. Default: a new repository is private, an existing one is left as it is.",
)
YES = click.option(
    "--yes-i-may",
    "yes",
    is_flag=True,
    help="Confirm, instead of being asked, that you may pass this on to everyone with access to the repository.",
)
OUT = click.argument("out", type=click.Path(path_type=Path))
REVISION = click.option(
    "--revision",
    metavar="REV",
    help="Commit, tag or branch. Default: the newest commit, which is printed, so that it can be cited.",
)


def confirm(question: str, *, yes: bool) -> None:
    """Asks for confirmation on a terminal; does nothing if there is no question.

    Raises:
        BadSettings: if the answer is no, or there is no terminal and no ``--yes-i-may``.
    """
    if not question or yes:
        return
    if not _on_a_terminal():
        raise BadSettings(f"{question} If so, confirm with --yes-i-may. Nothing was pushed")
    if not click.confirm(question, err=True):
        raise BadSettings("not confirmed; nothing was pushed")


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()


def pushed(repository: "Repository", made: "Exchanged", command: str) -> Iterator[str]:
    """Lines on the current content of the repository, and the command that fetches exactly that."""
    who = "private" if made.private else "public"
    yield (
        f"{repository.name} ({who}) at {made.commit}:"
        f" {f'{len(made.names)} files' if made.changed else 'everything was there already'}"
    )
    yield from (f"  removed: {name}" for name in made.others)
    yield f"{command} --revision {made.commit}"


def pulled(repository: str, made: "Exchanged") -> str:
    """The line on what was pulled; other files of the repository are logged."""
    others = [name for name in made.others if name != ".gitattributes"]
    if others:
        shown = f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}"
        log.logger.warning(
            "%s: %d files were not downloaded, since they are of another kind: %s", repository, len(others), shown
        )
    return f"{repository} at {made.commit}"


def pushing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that push."""
    for option in (YES, VISIBILITY):
        command = option(command)
    return command


def pulling(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of commands that pull."""
    for parameter in (WAIT, OVERWRITE, REVISION, OUT, REPOSITORY):
        command = parameter(command)
    return command
