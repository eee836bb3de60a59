"""Finds a model's files, on the disk or on the Hugging Face hub, and refuses those that are incomplete or could run
code.

Only safetensors are read (a ``.bin`` is a pickle and may run arbitrary code), and never the author's own Python code
(``auto_map``). A hub name needs a commit, since branches move.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from merc import files
from merc import hub as merc_hub
from merc.errors import BadSettings, BadTable, ModelUnavailable, PipelineError

CONFIG = "config.json"
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_INDEX = "model.safetensors.index.json"
# The file names of weights in transformers; others (a copy in another precision, an adapter) are not read.
WEIGHTS = ("model.safetensors", "model-*.safetensors")
# Files that are fetched and hashed: configuration, tokenizer, weights. No code, no pickles, no folders (ONNX and the
# like).
FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", *WEIGHTS)
_NO_FOLDERS = "*/*"
_WITH_CODE = (CONFIG, "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl"})
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_POINTER = b"version https://git-lfs"
_AGAIN = "copy or download the model again"


@dataclass(frozen=True)
class Checkpoint:
    """The origin of a model.

    Args:
        repo: a folder, or a name on the hub such as ``FacebookAI/roberta-base``; a folder with that path takes
            precedence. Links in a folder are followed.
        revision: the commit, 40 hex digits; not used for a folder.
        offline: never contact the hub.
        made_by: the command that makes the folder, if it is made here; then the hub is never contacted.
    """

    repo: str
    revision: str = ""
    offline: bool = False
    made_by: str = field(default="", kw_only=True)

    @property
    def is_folder(self) -> bool:
        return Path(self.repo).is_dir()

    def identity(self) -> dict[str, str]:
        """What determines the weights: ``{"sha256": …}`` of a folder's content, or ``{"repo": …, "revision": …}``.

        Fetches at most the configuration (a few kB), so that a wrong name, a missing commit or a missing connection
        shows before hours of work on other stages.

        Raises:
            ModelUnavailable: if the files are not on this machine and must not or cannot be fetched, or are incomplete.
            BadSettings: if ``repo`` or ``revision`` is neither of the above, the hub does not have the revision, or the
                files are refused.
        """
        if self.is_folder:
            check(Path(self.repo))
            return {"sha256": content_hash(Path(self.repo))}
        if self.offline:
            self.fetch()
        else:
            refuse_code(self._settings_folder, self._name)
            self._check_weights_on_the_hub()
        return {"repo": self.repo, "revision": self.revision}

    def fetch(self) -> Path:
        """The folder with the files; downloads missing ones unless offline; files fetched by an interrupted run are
        kept.

        Raises:
            ModelUnavailable: as :meth:`identity`.
            BadSettings: as :meth:`identity`.
        """
        if self.is_folder:
            check(Path(self.repo))
            return Path(self.repo)
        folder = self._snapshot(FILES)
        try:
            check(folder, self._name)
        except ModelUnavailable as error:
            if not self.offline and not _weights(folder):  # the hub was contacted, and all of its files are here
                raise BadSettings(self._no_safetensors()) from error
            raise ModelUnavailable(
                f"{error}. With a network, this downloads it again:\n  {self.command} --force-download"
            ) from error
        return folder

    def is_here(self) -> bool:
        """Whether all files are on this machine and complete; never contacts the hub.

        Raises:
            BadSettings: if they are refused, as :meth:`identity`.
        """
        try:
            replace(self, offline=True).fetch()
        except ModelUnavailable:
            return False
        return True

    def bytes_on_disk(self) -> int:
        """Bytes of its files on this machine; 0 if it :meth:`is not here <is_here>`. Raises as :meth:`is_here`."""
        return sum(path.stat().st_size for path in _files(replace(self, offline=True).fetch())) if self.is_here() else 0

    def bytes_to_fetch(self) -> int:
        """Bytes that :meth:`fetch` would download; contacts the hub. Raises as :meth:`identity`."""
        return (
            0
            if self.is_folder
            else sum(int(file.file_size) for file in self._ask_hub(FILES, dry_run=True) if file.will_download)
        )

    def configuration(self) -> dict[str, Any]:
        """The content of ``config.json``. Raises as :meth:`identity`."""
        return _read(self._settings_folder / CONFIG)

    def preprocessor(self) -> dict[str, Any]:
        """What the checkpoint states about its input (sampling rate, size and mean of images); empty if nothing. Raises
        as :meth:`identity`.
        """
        for path in (self._settings_folder / name for name in _PREPROCESSORS):
            if path.is_file():
                content = _read(path)
                return next(
                    (
                        content[key]
                        for key in ("feature_extractor", "image_processor")
                        if isinstance(content.get(key), dict)
                    ),
                    content,
                )
        return {}

    @property
    def command(self) -> str:
        """The shell command that fetches exactly the files that are read, or makes them."""
        if self.made_by:
            return self.made_by
        wanted = " ".join(f"--include '{pattern}'" for pattern in FILES)
        return f"hf download {self.repo} --revision {self.revision} {wanted} --exclude '{_NO_FOLDERS}'"

    @property
    def _name(self) -> str:
        return f"{self.repo} at revision {self.revision}"

    @cached_property
    def _settings_folder(self) -> Path:
        return Path(self.repo) if self.is_folder else self._snapshot((CONFIG, *_PREPROCESSORS))

    def _snapshot(self, patterns: tuple[str, ...]) -> Path:
        """The hub's files in its local cache."""
        return Path(self._ask_hub(patterns, local_files_only=self.offline))

    def _check_weights_on_the_hub(self) -> None:
        try:
            found = self._ask_hub(WEIGHTS, dry_run=True)
        except ModelUnavailable:
            return  # the hub is unreachable: use the local files
        if not found:
            raise BadSettings(self._no_safetensors())

    def _ask_hub(self, patterns: tuple[str, ...], **options: Any) -> Any:
        from huggingface_hub import errors as hub
        from huggingface_hub import snapshot_download

        if self.made_by:
            raise ModelUnavailable(f"there is no model folder {self.repo!r}; this makes it:\n  {self.made_by}")
        if not _HUB_NAME.fullmatch(self.repo):
            raise BadSettings(
                f"there is no model folder {self.repo!r}, and it is not a name on the hub such as"
                " 'FacebookAI/roberta-base' either"
            )
        if not _COMMIT.fullmatch(self.revision):
            raise BadSettings(
                f"{self.repo}: the revision is {self.revision!r}; a model from the hub needs its commit, 40 hex"
                " digits, since branches can change"
            )
        silence = "" if options.get("local_files_only") else merc_hub.silence()
        if silence and options.get("dry_run"):
            raise self._unavailable(silence)
        try:
            options |= {"local_files_only": True} if silence else {}
            with merc_hub.progress(shown=patterns == FILES and not options.get("dry_run")):
                return snapshot_download(
                    self.repo,
                    revision=self.revision,
                    allow_patterns=list(patterns),
                    ignore_patterns=[_NO_FOLDERS],
                    **options,
                )
        except hub.HFValidationError as error:
            raise BadSettings(f"{self.repo!r} is not a name on the hub: {error}") from error
        except (hub.EntryNotFoundError, hub.HTTPError, hub.XetDownloadError, OSError) as error:  # type: ignore[attr-defined]
            raise (self._unavailable(silence) if silence else self._explained(error)) from error

    def _explained(self, error: BaseException) -> PipelineError:
        from huggingface_hub import errors as hub

        if isinstance(error, hub.DryRunError) and error.__cause__:
            error = error.__cause__
        if isinstance(error, hub.RevisionNotFoundError):
            return BadSettings(
                f"the hub has no revision {self.revision} of {self.repo}; its commits are listed at"
                f" https://huggingface.co/{self.repo}/commits/main"
            )
        if isinstance(error, hub.GatedRepoError):
            return ModelUnavailable(
                f"the model {self._name} is available only to users who accept its terms at"
                f" https://huggingface.co/{self.repo}; after that:\n  hf auth login\n  {self.command}"
            )
        if isinstance(error, hub.RepositoryNotFoundError):
            return ModelUnavailable(
                f"the hub shows no model {self.repo} (revision {self.revision}): its name is wrong, or it is private,"
                f" in which case this downloads it:\n  hf auth login\n  {self.command}"
            )
        why = (
            "it is not in the local cache, and --offline forbids contacting the hub"
            if self.offline
            else f"the hub answered: {merc_hub.first_line(error).rstrip('.')}"
        )
        return self._unavailable(why)

    def _unavailable(self, why: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the model {self._name} is not available: {why}. With a network, this downloads it:\n  {self.command}\n"
            "Or put its files into a folder and name that folder as `repo`."
        )

    def _no_safetensors(self) -> str:
        return (
            f"{self._name}: has no {WEIGHTS[0]}, and weights in other formats can run code when read. Name a commit"
            " that has it (the hub's own conversion is often an open pull request at"
            f" https://huggingface.co/{self.repo}/discussions), or save the model as safetensors into a folder and name"
            " that folder as `repo`"
        )


def check(folder: Path, name: str = "") -> None:
    """Checks that a folder contains a complete model without custom code. Only the headers of weights are read.

    Args:
        folder: folder with the files.
        name: the model's name in messages; by default the folder.

    Raises:
        BadSettings: if it has no configuration, a broken one, only pickled weights, custom Python code, or references
            to files outside.
        ModelUnavailable: if its weights are missing or incomplete, or some of those in its index are missing.
    """
    name = name or str(folder)
    refuse_code(folder, name)
    if (folder / "adapter_config.json").is_file():
        raise BadSettings(
            f"{name}: holds an adapter, which would load another model; merge it into a complete model first"
        )
    for path in sorted(folder.glob("*.json")):
        _parsed(path)
    weights = _weights(folder)
    if not weights:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise BadSettings(
                f"{name}: holds its weights as {', '.join(pickles)} only, which can run code when read; convert them"
                " to safetensors, or choose a revision that has them"
            )
        raise ModelUnavailable(f"{name}: there is no {WEIGHTS[0]} in it; {_AGAIN}")
    for path in weights:
        check_whole(path)
    if not (folder / WEIGHTS[0]).is_file() or (folder / _INDEX).is_file():
        _check_index(folder, name)


def refuse_code(folder: Path, name: str = "") -> None:
    """Refuses a model with custom Python code, or whose configuration names weights in another format.

    Raises:
        BadSettings: the message names the file and the requested classes; also if there is no ``config.json``.
    """
    name = name or str(folder)
    if not (folder / CONFIG).is_file():
        raise BadSettings(f"{name}: no {CONFIG}, so this is not a transformers model")
    for path in (folder / file for file in _WITH_CODE):
        if path.is_file() and _read(path).get("auto_map"):
            raise BadSettings(
                f"{path}: asks for its author's code (auto_map: {json.dumps(_read(path)['auto_map'])}), which is never"
                " run; choose a model of a known type"
            )
    named = _read(folder / CONFIG).get("transformers_weights")
    if named not in (None, WEIGHTS[0], _INDEX):
        raise BadSettings(
            f"{folder / CONFIG}: transformers_weights is {named!r}; only {WEIGHTS[0]} and the files of {_INDEX} are"
            " read"
        )


def check_whole(path: Path) -> None:
    """Compares a safetensors file with its header: 8 bytes of length, that many bytes of JSON, then the tensors up to
    the last byte.

    Source: https://github.com/huggingface/safetensors#format

    Raises:
        ModelUnavailable: if bytes are missing or too many, the header cannot be read, or the file is a Git LFS pointer.
    """
    if not path.is_file():
        raise ModelUnavailable(f"{path}: a link to a missing file; {_AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(max(8, len(_POINTER)))
        if first.startswith(_POINTER):
            raise ModelUnavailable(f"{path}: a pointer of Git LFS instead of the weights; run `git lfs pull` there")
        header_bytes = int.from_bytes(first[:8], "little")
        if size < 8 or 8 + header_bytes > size:
            raise ModelUnavailable(f"{path}: incomplete, its {size} bytes end before the header does; {_AGAIN}")
        file.seek(8)
        try:
            header = json.loads(file.read(header_bytes))
            ends = [int(tensor["data_offsets"][1]) for key, tensor in header.items() if key != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ModelUnavailable(
                f"{path}: its header is broken ({type(error).__name__}: {merc_hub.first_line(error)}); {_AGAIN}"
            ) from error
    wanted = 8 + header_bytes + max(ends, default=0)
    if size != wanted:
        what = "incomplete" if size < wanted else "damaged"
        raise ModelUnavailable(f"{path}: {what}, it has {size} bytes and its header says {wanted}; {_AGAIN}")


def _check_index(folder: Path, name: str) -> None:
    index = folder / _INDEX
    if not index.is_file():
        raise ModelUnavailable(f"{name}: there is neither {WEIGHTS[0]} nor {_INDEX}; {_AGAIN}")
    places = _read(index).get("weight_map")
    named = sorted({str(file) for file in places.values()}) if isinstance(places, dict) else []
    if not named:
        raise BadSettings(f"{index}: has no weight_map")
    strange = [file for file in named if not _is_weight(file)]
    if strange:
        raise BadSettings(
            f"{index}: names {', '.join(strange)}; only files {' and '.join(WEIGHTS)} of the same folder are read"
        )
    missing = [file for file in named if not (folder / file).is_file()]
    if missing:
        raise ModelUnavailable(f"{name}: {_INDEX} names missing files: {', '.join(missing)}; {_AGAIN}")


def content_hash(folder: Path) -> str:
    """Hex sha256 over the names and contents of a model's files; the folder's location does not matter. Unchanged files
    are read once.
    """
    total = hashlib.sha256()
    for path in _files(folder):
        state = path.stat()
        total.update(
            f"{path.name}\0{_hash(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)}\n".encode()  # noqa: E501
        )
    return total.hexdigest()


@lru_cache(maxsize=256)
def _hash(path: Path, *state: int) -> str:
    """Hex sha256 of a file; ``state`` changes when the file does."""
    return files.sha256(path)


def _files(folder: Path) -> list[Path]:
    return sorted(
        {path for pattern in FILES for path in folder.glob(pattern) if path.is_file()}, key=lambda path: path.name
    )


def _weights(folder: Path) -> list[Path]:
    """Weight files by their names, including broken links."""
    return sorted(path for path in folder.iterdir() if _is_weight(path.name))


def _is_weight(name: str) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in WEIGHTS)


def _parsed(path: Path) -> Any:
    try:
        return files.read_json(path)
    except BadTable as error:
        raise BadSettings(f"{error}; {_AGAIN}") from error
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    content = _parsed(path)
    if not isinstance(content, dict):
        raise BadSettings(f"{path}: holds a {type(content).__name__} instead of an object")
    return content
