"""What all commands share: options, logs on stderr, and the exit code of every error that a user can fix.

Commands import the code that does the work, settings included, only when they start it: ``--help`` takes no longer than
importing click.
"""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from merc import extras, lock, log
from merc.errors import BadSettings, PipelineError, nearest
from merc.files import without_characters
from merc.interrupts import stoppable
from merc.layout import Layout
from merc.machines import ADDRESSES, DEVICES
from merc.shown import visible, visible_json

INTERRUPTED = 130
# System errors that a user can fix, wherever they occur: disk space, permissions, the number of open files, an invalid
# path. click handles EPIPE.
_REFUSED = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENOTEMPTY,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENXIO,
}  # fmt: skip

_FOLDER = click.Path(path_type=Path, file_okay=False)
PARAMS = click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings. Default: params.yaml here, else the package's own.",
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override any setting, for example run.max_failed=2; repeatable.",
)
RAW = click.option(
    "--raw",
    type=_FOLDER,
    default="raw",
    show_default=True,
    help="Folder that holds the corpora, each in raw/NAME, or the corpus's own folder.",
)
OUT = click.option(
    "--out",
    type=_FOLDER,
    default="features",
    show_default=True,
    help="Folder for all features; those of a dataset are in <out>/NAME.",
)
RUNS = click.option(
    "--runs",
    type=_FOLDER,
    default="runs",
    show_default=True,
    help="Folder for trained runs; each run is in <runs>/<dataset>/<recipe>.",
)
EVALUATIONS = click.option(
    "--evaluations",
    type=_FOLDER,
    default="evaluations",
    show_default=True,
    help="Folder for all evaluations; those of a run are in <evaluations>/runs/<dataset>/<recipe>.",
)


def _device(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Refuses a word that names no device, even if it is not used; whether the device exists is checked when it is
    used.
    """
    if not DEVICES.fullmatch(value):
        raise click.BadParameter(f"{value!r}; valid: auto, cpu, cuda, cuda:N")
    return value


DEVICE = click.option(
    "--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda or cuda:N."
)


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not ADDRESSES.fullmatch(value):
        raise click.BadParameter(f"{value!r}; valid: auto, local, HOST:PORT")
    return value


EXECUTOR = click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    help="ray: run on a Ray cluster; all its machines must see the raw files and the output. Default: run.executor.",
)
ADDRESS = click.option(
    "--address",
    callback=_address,
    metavar="auto|HOST:PORT|local",
    help="Address of the Ray cluster; local: a cluster made of this machine's cores. Default: run.address.",
)
OVERWRITE = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing output, even if it was made with other settings, instead of ending with exit code 5.",
)
OFFLINE = click.option(
    "--offline",
    is_flag=True,
    help="Never contact a model hub; if a model is not on this machine, the run ends with exit code 6.",
)
WAIT = click.option(
    "--wait",
    is_flag=True,
    help="Wait until another process that writes to the same output has finished, instead of ending with exit code 7.",
)
LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object per line, on stderr.",
)


def workers(what: str, default: int = os.cpu_count() or 1) -> Callable[[Any], Any]:
    """The option ``--workers``; ``what`` describes what the workers do."""
    cores = {"show_default": "cores"} if default == (os.cpu_count() or 1) else {"show_default": True}
    return click.option("--workers", type=click.IntRange(min=1), default=default, help=what, **cores)


def echo(line: object) -> None:
    """Prints a line of a command's result. Control characters other than our own styles are made visible: names come
    from corpora and third-party shards.
    """
    click.echo(visible(str(line)))


def echo_json(value: object) -> None:
    """Prints a value as a line of JSON."""
    click.echo(visible_json(json.dumps(value, ensure_ascii=False)))


class Command(click.Command):
    """A command whose usage errors make control characters visible: an argument may be a file name from an untrusted
    source.
    """

    def make_context(self, *given: Any, **named: Any) -> click.Context:
        """See :meth:`click.Command.make_context`."""
        with _shown():
            return super().make_context(*given, **named)

    def invoke(self, ctx: click.Context) -> Any:
        """See :meth:`click.Command.invoke`; subcommands read their arguments here."""
        with _shown():
            return super().invoke(ctx)


class Group(Command, click.Group):
    """A command with subcommands, likewise; the error about an unknown one suggests the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See :meth:`click.Group.resolve_command`."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"No such command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        words = error.format_message()
        if visible(words) == words:
            raise
        raise click.UsageError(visible(words), error.ctx) from error


@contextmanager
def exiting() -> Iterator[None]:
    """Turns a :class:`PipelineError` into its message and exit code, and Ctrl-C and SIGTERM into exit code 130."""
    try:
        with stoppable():
            yield
    except UnicodeEncodeError as error:  # a name or a text that the user's locale cannot encode
        log.logger.error(
            "%s", without_characters(error), extra={"error": type(error).__name__, "exit_code": BadSettings.exit_code}
        )
        sys.exit(BadSettings.exit_code)
    except PipelineError as error:
        log.logger.error("%s", error, extra={"error": type(error).__name__, "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        explained = extras.missing(error)
        if explained is None:
            raise
        log.logger.error("%s", explained, extra={"error": type(explained).__name__, "exit_code": explained.exit_code})
        sys.exit(explained.exit_code)
    except MemoryError as error:
        log.logger.error(
            "out of memory (%s); finished work is kept; run again with fewer --workers or more memory",
            error,
            extra={"exit_code": 1},
        )
        sys.exit(1)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        log.logger.error(
            "the system refuses: %s; finished work is kept; fix the cause and run again",
            error,
            extra={"error": type(error).__name__, "exit_code": 1},
        )
        sys.exit(PipelineError.exit_code)
    except KeyboardInterrupt:
        log.logger.error(
            "interrupted; finished work is kept; run the same command again to resume",
            extra={"exit_code": INTERRUPTED},
        )
        sys.exit(INTERRUPTED)


def go_through(work: Mapping[str, Callable[[], Iterable[object]]]) -> None:
    """Does several pieces of work and prints the results; a failure does not stop the others.

    Args:
        work: name → function that yields lines.

    Raises:
        PipelineError: when all are done, of the class of the first failure; with a single piece of work, its own error.
    """
    failed: dict[str, PipelineError] = {}
    for name, make in work.items():
        try:
            for line in make():
                echo(line)
        except PipelineError as error:
            if len(work) == 1:
                raise
            log.logger.error("%s is left out: %s", name, error, extra={"left_out": name, "error": type(error).__name__})
            failed[name] = error
    if failed:
        raise type(next(iter(failed.values())))(
            f"left out, as explained above: {', '.join(failed)}; finished work is kept"
        )


def behind_a_subcommand(context: click.Context) -> bool:
    """Whether a command that also works without subcommands was called with one.

    Raises:
        click.UsageError: if options precede the subcommand, where they would have no effect.
    """
    if context.invoked_subcommand is None:
        return False
    given = [
        name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"options of {context.invoked_subcommand} must come after it; given before it: {', '.join(sorted(given))}",
            context,
        )
    return True


def stage_command(stage: Callable[..., Any], *, into_features: bool = True) -> click.Command:
    """A command for ``dvc.yaml`` around ``stage(params, layout, run, **options)``.

    Further options are added by decorating ``stage`` with ``click.option`` first. Work made with other settings is
    replaced, since with DVC it is DVC that decides what is stale.

    Args:
        stage: the function.
        into_features: whether it writes to the dataset's features, to which no other process may write in the meantime.

    Example:
        >>> @stage_command
        ... @click.option("--modality", required=True)
        ... def main(params, layout, run, modality): ...
    """

    def command(dataset: str, raw: Path, out: Path, params_file: Path | None, **options: Any) -> None:
        from merc.job import RunOptions
        from merc.params import Params

        log.set_up()
        with exiting():
            params = Params.load(params_file)
            run = RunOptions.of(params, overwrite=True, workers=os.cpu_count() or 1)
            layout = Layout(raw, out, dataset)
            with lock.held(layout.folder) if into_features else nullcontext():
                stage(params, layout, run, **options)

    command.__doc__ = stage.__doc__
    decorated: Any = command
    decorated.__click_params__ = list(getattr(stage, "__click_params__", []))
    for option in (
        PARAMS,
        OUT,
        RAW,
        click.option("--dataset", required=True, help="Name of the dataset, as for merc-extract."),
    ):
        decorated = option(decorated)
    return click.command(cls=Command)(decorated)
