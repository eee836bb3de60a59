"""What all commands share: options, logs on stderr, and the exit code of every error a user can do something about."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from merc import log
from merc.errors import PipelineError
from merc.layout import Layout
from merc.params import Params
from merc.parts import RunOptions

INTERRUPTED = 130


@contextmanager
def exiting() -> Iterator[None]:
    """Turns a :class:`PipelineError` into its message and exit code, and Ctrl-C into exit code 130."""
    try:
        yield
    except PipelineError as error:
        log.logger.error("%s", error, extra={"error": type(error).__name__, "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        log.logger.error("interrupted; what was finished is kept, run the same command again to go on", extra={"exit_code": INTERRUPTED})
        sys.exit(INTERRUPTED)


def behind_a_subcommand(context: click.Context) -> bool:
    """Whether a command that does something by itself was given one of its subcommands.

    Raises:
        click.UsageError: if options stand before the subcommand, where they would have no effect.
    """
    if context.invoked_subcommand is None:
        return False
    given = [name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"options of {context.invoked_subcommand} stand behind it; given before it: {', '.join(sorted(given))}", context)
    return True


def stage_command(stage: Callable[..., Any]) -> click.Command:
    """A command for ``dvc.yaml`` around ``stage(params, layout, run, **options)``.

    Further options are added by decorating ``stage`` with ``click.option`` first. Work that was made with other settings is
    replaced, since under DVC it is DVC that decides what is stale.

    Example:
        >>> @stage_command
        ... @click.option("--modality", required=True)
        ... def main(params, layout, run, modality): ...
    """

    def command(dataset: str, raw: Path, out: Path, params_file: Path | None, **options: Any) -> None:
        log.set_up()
        with exiting():
            params = Params.load(params_file)
            run = RunOptions.of(params, overwrite=True, workers=os.cpu_count() or 1)
            stage(params, Layout(raw, out, dataset), run, **options)

    command.__doc__ = stage.__doc__
    decorated: Any = command
    decorated.__click_params__ = list(getattr(stage, "__click_params__", []))
    for option in (
        click.option("--params", "params_file", type=click.Path(path_type=Path, dir_okay=False), help="Settings; default: params.yaml here."),
        click.option("--out", type=click.Path(path_type=Path), default="features", show_default=True, help="Folder of all features."),
        click.option("--raw", type=click.Path(path_type=Path), default="raw", show_default=True, help="Folder of the corpora."),
        click.option("--dataset", required=True, help="A block under corpora in params.yaml."),
    ):
        decorated = option(decorated)
    return click.command()(decorated)
