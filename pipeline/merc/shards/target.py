"""The folder that a command writes shards to: new, whole or not there at all, and never in place of anything but shards."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from merc import files, lock
from merc.errors import BadSettings, SettingsDiffer


@contextmanager
def new_shards(target: Path, sources: Sequence[Path], *, overwrite: bool, wait: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside ``target`` to write to; it takes the place of ``target`` if the block ends without error.

    Args:
        target: where the shards are to be.
        sources: folders that are read; ``target`` must not be, hold or lie in one of them.
        overwrite: replace shards that are at ``target``.
        wait: until another process that writes there has finished, instead of giving up.

    Raises:
        BadSettings: if ``target`` is a link, or is, holds or lies in a source.
        OutputInUse: if another process writes there, and ``wait`` is off.
        CannotWrite: if the folder cannot be made, or what is in it not be written.
        SettingsDiffer: if something is at ``target``; with ``overwrite`` only if that is anything but shards or an empty folder.
    """
    if target.is_symlink():
        raise BadSettings(f"{target} is a link to {target.resolve()}; name that folder itself, if it is the one that is meant")
    here = target.resolve()
    for source in (one.resolve() for one in sources):
        if here.is_relative_to(source) or source.is_relative_to(here):
            raise BadSettings(f"{target}: the shards that are read are {source}; write to a folder that is neither in them nor around them")
    with lock.held(here, wait=wait), _scratch(target, here, overwrite) as scratch:
        yield scratch
        files.replace_folder(scratch, here)


def check_free(target: Path, *, overwrite: bool) -> None:
    """Raises ``SettingsDiffer`` if something is at ``target``; with ``overwrite`` only if that is anything but shards or an empty folder."""
    shards = (target / "meta" / "info.json").is_file()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())) and not (shards and overwrite):
        hint = "give another folder, or --overwrite to replace them" if shards else "it is no folder of shards, so that it is not replaced; give another one"
        raise SettingsDiffer(f"{target}: {'shards are' if shards else 'something is'} already there; {hint}")


@contextmanager
def _scratch(target: Path, here: Path, overwrite: bool) -> Iterator[Path]:
    scratch = here.with_name(f".{here.name}.unfinished")
    with files.writing(target):
        files.finish_replacing(here)  # of a run that was killed, as what is removed below
        check_free(target, overwrite=overwrite)
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
