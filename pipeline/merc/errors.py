"""The errors that a user can fix, each with the exit code of the commands.

Everything else is a bug in the program and ends with exit code 1 and a traceback.
"""

import difflib
from collections.abc import Sequence


class PipelineError(Exception):
    """Base of all errors that are explained in one message; the commands print it without a traceback."""

    exit_code = 1


class BadSettings(PipelineError):
    """A setting is unknown, missing or impossible (exit code 2); the message names its key."""

    exit_code = 2


class BadPlugin(BadSettings):
    """A plug-in of an installed distribution cannot be used; the message names both. It affects only runs that use
    it.
    """


class MissingExtra(BadSettings):
    """A feature is requested whose extra is not installed (exit code 2); the message contains the command that installs
    it.
    """


class TooManyFailures(PipelineError):
    """More utterances are broken than ``--max-failed`` allows (exit code 3)."""

    exit_code = 3


class RawDataMissing(PipelineError):
    """Raw data are missing, incompletely unpacked or in another format (exit code 4)."""

    exit_code = 4


class SettingsDiffer(PipelineError):
    """Existing work was made with other settings (exit code 5); the message names the keys."""

    exit_code = 5


class ModelUnavailable(PipelineError):
    """A model is not on this machine and cannot be downloaded (exit code 6)."""

    exit_code = 6


class HubRefuses(PipelineError):
    """The Hugging Face hub refuses a request, or does not answer (exit code 6); the message says what to do."""

    exit_code = 6


class OutputInUse(PipelineError):
    """Another process is writing to the same output (exit code 7); the message says which."""

    exit_code = 7


class CannotWrite(PipelineError):
    """An output cannot be written (exit code 1): a full disk, a read-only folder, a file where a folder should be.
    Finished work is kept.
    """


class BadCluster(PipelineError):
    """A cluster cannot be used (exit code 1): nothing answers at its address, or a node cannot do the work; the message
    names it.
    """


class BadTable(PipelineError):
    """Annotations or a table contradict themselves, or do not have the agreed columns (exit code 4): a duplicate id, an
    unknown emotion, another schema.
    """

    exit_code = 4


def nearest(name: str, valid: Sequence[str]) -> str:
    """Text for an error message about an unknown name: the likely fix, and all valid names."""
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(sorted(valid)) or 'none'}"
