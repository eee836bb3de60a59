"""Finding a model's files, on the disk or on the Hugging Face hub, and refusing those that could run code.

Only safetensors are read (a ``.bin`` is a pickle and runs whatever its author put in), and never the author's own
Python (``auto_map``). A hub name needs a commit: branches move.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import BadSettings, BadTable, ModelUnavailable

CONFIG = "config.json"
# What is fetched and hashed: configuration, tokenizer, weights. Nothing that holds code or pickles, no folders (ONNX and the like).
FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "*.safetensors")
_WITH_CODE = (CONFIG, "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl"})
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """Where a model comes from.

    Args:
        repo: a folder, or a name on the hub such as ``FacebookAI/roberta-base``; a folder of that path goes first.
        revision: the commit, 40 hex digits; not used for a folder.
        offline: never ask the hub.
    """

    repo: str
    revision: str = ""
    offline: bool = False

    @property
    def is_folder(self) -> bool:
        return Path(self.repo).is_dir()

    def identity(self) -> dict[str, str]:
        """What decides the weights: ``{"sha256": …}`` of a folder's content, or ``{"repo": …, "revision": …}``.

        Fetches at most the configuration (a few kB), so that a wrong name, a missing commit or a missing network shows
        before hours of work on other stages.

        Raises:
            ModelUnavailable: if the files are not here and must not or cannot be fetched.
            BadSettings: if ``repo`` or ``revision`` is neither of the above, or the files are refused.
        """
        if self.is_folder:
            check(Path(self.repo))
            return {"sha256": content_hash(Path(self.repo))}
        if self.offline:
            self.fetch()
        else:
            refuse_code(self._snapshot([CONFIG]))
        return {"repo": self.repo, "revision": self.revision}

    def fetch(self) -> Path:
        """The folder with the files; downloads what is missing unless offline. Raises as :meth:`identity`."""
        folder = Path(self.repo) if self.is_folder else self._snapshot(list(FILES))
        check(folder)
        return folder

    def configuration(self) -> dict[str, Any]:
        """The content of ``config.json``. Raises as :meth:`identity`."""
        folder = Path(self.repo) if self.is_folder else self._snapshot([CONFIG])
        return _read(folder / CONFIG)

    def _snapshot(self, patterns: list[str]) -> Path:
        """The hub's files in its local cache."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError, XetDownloadError  # type: ignore[attr-defined]

        if not _HUB_NAME.fullmatch(self.repo):
            raise BadSettings(f"there is no model folder {self.repo!r}, and it is no name on the hub such as 'FacebookAI/roberta-base' either")
        if not _COMMIT.fullmatch(self.revision):
            raise BadSettings(
                f"{self.repo}: the revision is {self.revision!r}; a model from the hub needs its commit, 40 hex digits, since names of branches move"
            )
        try:
            found = snapshot_download(self.repo, revision=self.revision, allow_patterns=patterns, ignore_patterns=["*/*"], local_files_only=self.offline)
        except HFValidationError as error:
            raise BadSettings(f"{self.repo!r} is no name on the hub: {error}") from error
        except (EntryNotFoundError, HTTPError, XetDownloadError, OSError) as error:
            raise ModelUnavailable(self._how_to_get(error)) from error
        return Path(found)

    def _how_to_get(self, error: Exception) -> str:
        why = "it is not in the local cache, and --offline forbids asking the hub" if self.offline else f"the hub gave: {_first_line(error)}"
        return (
            f"the model {self.repo} at revision {self.revision} is not to be had: {why}. With a network, this fetches it:\n"
            f"  hf download {self.repo} --revision {self.revision}\n"
            "Or put its files into a folder and name that folder as `repo`."
        )


def check(folder: Path) -> None:
    """Checks that a folder holds a whole model that needs no code of its own.

    Raises:
        BadSettings: if it has no configuration, only pickled weights, or asks for its author's Python.
        ModelUnavailable: if its weights are not there, or some that its index names.
    """
    refuse_code(folder)
    if (folder / "adapter_config.json").is_file():
        raise BadSettings(f"{folder}: holds an adapter, which would load another model under it; merge it into a whole model first")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise BadSettings(
                f"{folder}: holds its weights as {', '.join(pickles)} alone, which can run code when read; "
                "convert them to safetensors, or choose a revision that has them"
            )
        raise ModelUnavailable(f"{folder}: there are no *.safetensors in it; copy or download the model again")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        named = sorted({Path(str(name)).name for name in _read(index).get("weight_map", {}).values()})
        missing = [name for name in named if not (folder / name).is_file()]
        if missing:
            raise ModelUnavailable(f"{folder}: {index.name} names files that are not there: {', '.join(missing)}; copy or download the model again")


def refuse_code(folder: Path) -> None:
    """Refuses a model that brings its own Python.

    Raises:
        BadSettings: naming the file and the classes it asks for; also if there is no ``config.json``.
    """
    if not (folder / CONFIG).is_file():
        raise BadSettings(f"{folder}: no {CONFIG}, so this is no model folder")
    for name in _WITH_CODE:
        path = folder / name
        if path.is_file() and _read(path).get("auto_map"):
            raise BadSettings(
                f"{path}: asks for code of its author (auto_map: {json.dumps(_read(path)['auto_map'])}), which is never run; choose a model of a known type"
            )


def content_hash(folder: Path) -> str:
    """Hex sha256 over the names and contents of a model's files; where the folder lies does not matter."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()}, key=lambda path: path.name):
        total.update(f"{path.name}\0{files.sha256(path)}\n".encode())
    return total.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = files.read_json(path)
    except BadTable as error:
        raise BadSettings(str(error)) from error
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BadSettings(f"{path}: holds a {type(content).__name__} instead of an object")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
