"""Shards to the Hugging Face hub and back: only what keeps its contract goes up, and only that is put in place of what
is here.
"""

import re
from pathlib import Path
from typing import Any

from merc import exchange
from merc.errors import BadSettings, BadTable
from merc.records.dialogue import SPLITS
from merc.shards.card.writing import rights
from merc.shards.config import Config
from merc.shards.format import reader
from merc.shards.format.row_groups import TABLES
from merc.shards.select import select
from merc.shards.target import new_shards
from merc.shards.validate import Report, validate

_RECORDS = frozenset({"README.md", "croissant.json", "meta/info.json", "meta/stats.json", "meta/manifest.json"})
_TABLE = re.compile(rf"({'|'.join(TABLES)})/({'|'.join(SPLITS)})-[0-9]{{5}}-of-[0-9]{{5}}\.parquet")
_SHOWN = 3


def is_ours(name: str) -> bool:
    """Whether a file of shards has such a name, relative to their folder.

    >>> [is_ours(name) for name in ("dialogues/train-00000-of-00001.parquet", "meta/../README.md", "notes.txt")]
    [True, False, False]
    """
    return name in _RECORDS or _TABLE.fullmatch(name) is not None


def question(info: dict[str, Any], folder: Path, *, public: bool) -> str:
    """What the user has to confirm before shards are pushed; empty where their card permits passing them on.

    Args:
        info: of the shards as they will be pushed.
        folder: for the message.
        public: whether anyone will see them.

    Raises:
        BadSettings: if they must not be public, whatever the user confirms.
    """
    if info.get("redistribution"):
        return ""
    said = f"The card of {folder} says: {rights(info)}"
    if not info.get("transcripts", True):
        return f"{said} Do you have that permission, for everyone with access to the repository?"
    if public:
        raise BadSettings(
            f"{said} They are not pushed to a public repository. Use --no-text to leave the transcripts out, or"
            " --private"
        )
    return f"{said} May everyone with access to the private repository have this corpus?"


def without_transcripts(folder: Path, scratch: Path, config: Config) -> Path:
    """Shards without transcripts, in a folder below ``scratch``: equal shards give equal files, so that an interrupted
    push of them is resumed.

    Raises:
        BadTable: if something is wrong with those in ``folder``.
    """
    _check(folder, str(folder), "nothing was pushed")  # the copy would have checksums of its own
    select(folder, scratch / "shards", config, transcripts=False)
    return scratch / "shards"


def push(folder: Path, repository: exchange.Repository, *, private: bool | None) -> exchange.Exchanged:
    """Pushes shards that keep their contract, with their card.

    Args:
        folder: of the shards. Other files in it stay where they are.
        repository: of the hub.
        private: see :func:`merc.exchange.push`. Shards that must not be passed on never go to a public repository while
            they have transcripts.

    Raises:
        BadTable: if there are no shards, or something is wrong with them, or they have no card.
        BadSettings, HubRefuses: as :func:`merc.exchange.push`.
    """
    info = reader.info(folder)
    _check(folder, str(folder), "nothing was pushed")
    if not (folder / "README.md").is_file():
        raise BadTable(
            f"{folder}: there is no dataset card README.md; merc-extract, or merc-shards select, writes one. Nothing"
            " was pushed"
        )
    paths = [
        *(folder / name for name in _RECORDS),
        *(path for table in TABLES for path in (folder / table).glob("*.parquet")),
    ]
    content = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    never_public = not info.get("redistribution") and bool(info.get("transcripts", True))
    message = (
        f"{info['corpus']}: shards of merc-pipeline {info['versions'].get('merc-pipeline', '')}, fingerprint"
        f" {info['fingerprint'][:16]}"
    )
    return exchange.push(repository, content, is_ours, message, private=private, never_public=never_public)


def pull(
    repository: exchange.Repository, target: Path, revision: str | None, *, overwrite: bool, wait: bool
) -> tuple[exchange.Exchanged, Report]:
    """Downloads shards, checks them as ``merc-shards validate`` does, and puts them into place.

    Args:
        repository: of the hub.
        target: where they go; what an interrupted download fetched is kept next to it.
        revision: a branch, tag or commit; None: the newest.
        overwrite: replace shards that are there.
        wait: until another process that writes there has finished.

    Returns:
        What was pulled, and what the check counted.

    Raises:
        BadTable: if the repository holds no shards, or such that something is wrong with; what is at ``target`` stays.
        BadSettings, CannotWrite, HubRefuses: as :func:`merc.exchange.pull`.
        SettingsDiffer: if something is at ``target``.
    """
    with new_shards(target, [], overwrite=overwrite, wait=wait) as scratch:
        found = exchange.pull(repository, revision, is_ours, scratch, target)
        report = _check(scratch, f"{repository.name} at {found.commit}", f"nothing was put at {target}")
    return found, report


def _check(folder: Path, name: str, otherwise: str) -> Report:
    """Raises ``BadTable`` if something is wrong with shards, with the first of all that is.

    Args:
        folder: of the shards.
        name: theirs in the message.
        otherwise: what was not done.
    """
    report = validate(folder)
    if count := report.problems.counts.total():
        first = "; ".join(str(one) for one in report.problems.listed[:_SHOWN])
        raise BadTable(f"{name}: {count} problems, as listed by `merc-shards validate`: {first}; {otherwise}")
    return report
