"""Pushes shards to the Hugging Face hub and pulls them: only valid shards are uploaded, and only valid ones replace
existing ones.
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
    """Whether a name, relative to the folder of shards, is that of one of their files.

    >>> [is_ours(name) for name in ("dialogues/train-00000-of-00001.parquet", "meta/../README.md", "notes.txt")]
    [True, False, False]
    """
    return name in _RECORDS or _TABLE.fullmatch(name) is not None


def question(info: dict[str, Any], folder: Path, *, public: bool) -> str:
    """What the user must confirm before shards are pushed; empty if their card permits redistribution.

    Args:
        info: info of the shards as they will be pushed.
        folder: name for the message.
        public: whether they will be public.

    Raises:
        BadSettings: if they must not be public even with the user's confirmation.
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
    """Shards without transcripts, in a folder below ``scratch``: equal shards give equal files, so an interrupted push
    of them can be resumed.

    Raises:
        BadTable: if those in ``folder`` are invalid.
    """
    _check(folder, str(folder), "nothing was pushed")  # the copy would have new checksums
    select(folder, scratch / "shards", config, transcripts=False)
    return scratch / "shards"


def push(folder: Path, repository: exchange.Repository, *, private: bool | None) -> exchange.Exchanged:
    """Pushes valid shards with their card.

    Args:
        folder: folder of the shards. Other files in it are not pushed.
        repository: repository on the hub. private: see :func:`merc.exchange.push`. Shards that must not be
            redistributed never go to a public repository while they have transcripts.

    Raises:
        BadTable: if there are no shards, or they are invalid or have no card. BadSettings, HubRefuses: as
        :func:`merc.exchange.push`.
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
    """Downloads shards, checks them as ``merc-shards validate`` does, and moves them into place.

    Args:
        repository: of the hub.
        target: final path; the part of an interrupted download is kept next to it.
        revision: a branch, tag or commit; None: the newest.
        overwrite: replace existing shards.
        wait: until another process that writes there has finished.

    Returns:
        What was pulled, and the counts of the check.

    Raises:
        BadTable: if the repository contains no shards, or invalid ones; ``target`` is not changed then. BadSettings,
        CannotWrite, HubRefuses: as :func:`merc.exchange.pull`.
        SettingsDiffer: if something is at ``target``.
    """
    with new_shards(target, [], overwrite=overwrite, wait=wait) as scratch:
        found = exchange.pull(repository, revision, is_ours, scratch, target)
        report = _check(scratch, f"{repository.name} at {found.commit}", f"nothing was put at {target}")
    return found, report


def _check(folder: Path, name: str, otherwise: str) -> Report:
    """Raises ``BadTable`` with the first problem if shards are invalid.

    Args:
        folder: of the shards.
        name: their name in the message.
        otherwise: what was not done.
    """
    report = validate(folder)
    if count := report.problems.counts.total():
        first = "; ".join(str(one) for one in report.problems.listed[:_SHOWN])
        raise BadTable(f"{name}: {count} problems, as listed by `merc-shards validate`: {first}; {otherwise}")
    return report
