"""Pushes a folder to a repository of the Hugging Face hub as one commit, and pulls it back, comparing every file with
the hub's listing.

Only files named by the caller are uploaded, and only files expected by the caller are downloaded. Repositories are
untrusted: unexpected names are skipped, and only plain files with the size and content stated in the listing are
written.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from merc import files, hub
from merc.errors import BadSettings, BadTable, CannotWrite, HubRefuses

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)
_MARGIN_BYTES = 100_000_000  # left free on the disk
_SHOWN = 3
_KEPT_UP = (
    "Uploaded files are kept there, and the same command does not send them again; they become visible only when all"
    " are there."
)
_KEPT_DOWN = "Downloaded files are kept, and the same command does not download them again."


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: ``OWNER/NAME``.
        kind: ``dataset`` or ``model``.
    """

    name: str
    kind: Literal["dataset", "model"]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadSettings(
                f"{self.name!r} is not the name of a repository on the hub; expected OWNER/NAME, such as"
                " ann/meld-shards"
            )


@dataclass(frozen=True)
class Exchanged:
    """What was pushed or pulled.

    Attributes:
        commit: of the repository, 40 hex digits.
        names: of the files, sorted.
        private: whether the repository is private.
        others: names in the repository that were not fetched or that were removed from it, sorted.
        changed: whether a new commit was made.
    """

    commit: str
    names: tuple[str, ...]
    private: bool
    others: tuple[str, ...] = ()
    changed: bool = True


def push(
    repository: Repository,
    content: Mapping[str, Path | bytes],
    ours: Callable[[str], bool],
    message: str,
    *,
    private: bool | None,
    never_public: bool,
) -> Exchanged:
    """Puts these files into the repository in one commit, so that no one sees only a part of them.

    Args:
        repository: created if it does not exist.
        content: name in the repository → file, or its content.
        ours: whether a name is that of such a file; existing ones that are not in ``content`` are removed, all other
            files stay.
        message: of the commit.
        private: visibility of a new repository, and required visibility of an existing one; None: a new one becomes
            private, an existing one is not changed.
        never_public: refuse a public repository, whatever ``private`` says.

    Raises:
        BadSettings: if the repository is public and must not be.
        HubRefuses: if the hub refuses or cannot be reached; what was uploaded is not sent again next time.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with hub.refusing(f"push to {repository.name}", _KEPT_UP), hub.progress(shown=True):
        api.create_repo(repository.name, repo_type=repository.kind, private=private is not False, exist_ok=True)
        there = api.repo_info(repository.name, repo_type=repository.kind)
        _check_visibility(repository, bool(there.private), private, never_public=never_public)
        names = api.list_repo_files(repository.name, repo_type=repository.kind, revision=there.sha)
        stale = sorted(name for name in names if ours(name) and name not in content)
        added = [
            CommitOperationAdd(name, str(source) if isinstance(source, Path) else source)
            for name, source in sorted(content.items())
        ]
        try:
            made = api.create_commit(
                repository.name,
                [*added, *(CommitOperationDelete(name) for name in stale)],
                commit_message=message,
                repo_type=repository.kind,
                parent_commit=there.sha,
            )
        except (
            RuntimeError,
            ValueError,
        ) as error:  # an interrupted upload, or content that the hub does not accept
            raise _broken(repository, error) from error
    return Exchanged(made.oid, tuple(sorted(content)), bool(there.private), tuple(stale), changed=made.oid != there.sha)


def _check_visibility(repository: Repository, is_private: bool, private: bool | None, *, never_public: bool) -> None:
    if not is_private and (never_public or private):
        raise BadSettings(
            f"{repository.name} exists and is public; make it private in its settings on the hub, or name another"
            " repository. Nothing was uploaded"
        )
    if is_private and private is False:
        raise BadSettings(
            f"{repository.name} exists and is private, and --public does not change that; make it public in its"
            " settings on the hub"
        )


def _broken(repository: Repository, error: BaseException) -> HubRefuses:
    words = [hub.first_line(one).rstrip(".") for one in (error, error.__cause__) if one is not None]
    return HubRefuses(f"push to {repository.name}: {': '.join(words)}. {_KEPT_UP}")


def pull(
    repository: Repository, revision: str | None, wanted: Callable[[str], bool], folder: Path, target: Path
) -> Exchanged:
    """Downloads the requested files into ``folder``, and checks them.

    Args:
        repository: the source.
        revision: a branch, tag or commit; None: the newest commit of the main branch.
        wanted: whether a name is expected; all others are not fetched.
        folder: an empty folder, on the same disk as ``target``.
        target: final place of the files; the part of an interrupted download stays in a hidden folder next to it, from
            which the next download resumes.

    Raises:
        BadSettings: for an invalid name of a revision.
        BadTable: if the repository has none of the requested files, or a file differs from the hub's listing.
        CannotWrite: if the disk has no room for the listed files.
        HubRefuses: if the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download

    if revision is not None and not _REVISION.fullmatch(revision):
        raise BadSettings(f"{revision!r} is not a revision; expected a branch, a tag or a commit")
    unfinished = target.resolve().with_name(f".{target.name}.pulling")
    api = HfApi()
    with hub.refusing(f"pull from {repository.name}", _KEPT_DOWN), hub.progress(shown=True):
        there = api.repo_info(repository.name, repo_type=repository.kind, revision=revision)
        listed, others = _listed(api, repository, str(there.sha), wanted)
        unfinished.mkdir(parents=True, exist_ok=True)
        _check_room(repository, listed.values(), unfinished)
        snapshot_download(
            repository.name,
            repo_type=repository.kind,
            revision=there.sha,
            local_dir=unfinished,
            allow_patterns=sorted(listed),
        )
    try:
        for name, file in sorted(listed.items()):
            _check_file(unfinished, name, file)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).rename(folder / name)
    except BadTable as error:
        raise BadTable(f"{repository.name} at {there.sha}: {error}. Nothing of it was kept") from error
    finally:
        shutil.rmtree(unfinished)
    return Exchanged(str(there.sha), tuple(sorted(listed)), bool(there.private), tuple(others))


def _listed(
    api: "HfApi", repository: Repository, commit: str, wanted: Callable[[str], bool]
) -> "tuple[dict[str, RepoFile], list[str]]":
    """The requested files by name, and the names of all others."""
    from huggingface_hub.hf_api import RepoFile

    tree = [
        one
        for one in api.list_repo_tree(repository.name, recursive=True, revision=commit, repo_type=repository.kind)
        if isinstance(one, RepoFile)
    ]
    listed = {one.path: one for one in tree if wanted(one.path)}
    others = sorted(one.path for one in tree if not wanted(one.path))
    if not listed:
        shown = ", ".join(others[:_SHOWN]) + (" …" if len(others) > _SHOWN else "")
        raise BadTable(
            f"{repository.name} at {commit}: none of its files are of the kind that is pulled here; it holds"
            f" {shown or 'nothing'}"
        )
    return listed, others


def _check_room(repository: Repository, listed: "Iterable[RepoFile]", folder: Path) -> None:
    """Raises ``CannotWrite`` before a download that would fill the disk."""
    wanted = sum(one.size for one in listed if not (folder / one.path).is_file())
    free = shutil.disk_usage(folder).free
    if wanted + _MARGIN_BYTES > free:
        raise CannotWrite(
            f"{repository.name}: {wanted:,} bytes would be downloaded, and {free:,} are free at {folder.parent};"
            " nothing was downloaded"
        )


def _check_file(folder: Path, name: str, listed: "RepoFile") -> None:
    """Raises ``BadTable`` unless a plain file exists with the size and hash of the listing."""
    path = files.confined(folder, name, follow_links=False)
    if path.is_symlink() or not path.is_file():
        raise BadTable(f"{name}: it is listed, but no regular file was downloaded")
    if path.stat().st_size != listed.size:
        raise BadTable(
            f"{name}: {path.stat().st_size} bytes were received instead of the {listed.size} that are listed"
        )
    there, wanted = (
        (files.sha256(path), listed.lfs.sha256) if listed.lfs is not None else (_git_hash(path), listed.blob_id)
    )
    if there != wanted:
        raise BadTable(f"{name}: its content has the hash {there}, and {wanted} is listed")


def _git_hash(path: Path) -> str:
    """The name that git gives to a file's content."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
