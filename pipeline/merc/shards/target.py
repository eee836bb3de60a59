"""The folder that a command writes shards or models to: new, complete or absent, and never replacing anything else."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merc import files, lock
from merc.errors import BadSettings, SettingsDiffer


@dataclass(frozen=True)
class Kind:
    """The kind of content of a folder.

    Attributes:
        name: name in messages, in the plural.
        record: the file that identifies it.
    """

    name: str
    record: str


SHARDS = Kind("shards", "meta/info.json")


@contextmanager
def new_shards(
    target: Path, sources: Sequence[Path], *, overwrite: bool, wait: bool = False, kind: Kind = SHARDS
) -> Iterator[Path]:
    """Yields an empty folder next to ``target`` to write to; it replaces ``target`` if the block ends without error.

    Args:
        target: final path of the shards.
        sources: folders that are read; ``target`` must not be, contain or be in one of them.
        overwrite: replace shards that are at ``target``.
        wait: wait for another process that writes there instead of giving up.
        kind: what is written.

    Raises:
        BadSettings: if ``target`` is a link, or is, contains or is in a source.
        OutputInUse: if another process writes there, and ``wait`` is off.
        CannotWrite: if the folder or its content cannot be written.
        SettingsDiffer: if something is at ``target``; with ``overwrite`` only if that is anything but shards or an
            empty folder.
    """
    if target.is_symlink():
        raise BadSettings(f"{target} is a link to {target.resolve()}; name that folder itself if you mean it")
    here = target.resolve()
    for source in (one.resolve() for one in sources):
        if here.is_relative_to(source) or source.is_relative_to(here):
            raise BadSettings(
                f"{target}: the source shards are {source}; write to a folder that neither is inside them nor contains"
                " them"
            )
    with lock.held(here, wait=wait), _scratch(target, here, overwrite, kind) as scratch:
        yield scratch
        files.replace_folder(scratch, here)


def check_free(target: Path, *, overwrite: bool, kind: Kind = SHARDS) -> None:
    """Raises ``SettingsDiffer`` if something is at ``target``; with ``overwrite`` only if that is of another kind, and
    not an empty folder.
    """
    ours = (target / kind.record).is_file()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())) and not (ours and overwrite):
        hint = (
            "give another folder, or --overwrite to replace them"
            if ours
            else f"it is not a folder of {kind.name}, so it is not replaced; name another one"
        )
        raise SettingsDiffer(f"{target}: {f'{kind.name} are' if ours else 'something is'} already there; {hint}")


@contextmanager
def _scratch(target: Path, here: Path, overwrite: bool, kind: Kind) -> Iterator[Path]:
    scratch = here.with_name(f".{here.name}.unfinished")
    with files.writing(target):
        files.finish_replacing(here)  # of a killed run, like what is removed below
        check_free(target, overwrite=overwrite, kind=kind)
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
