"""The file with the weights of Light-ASD: a local one, or the authors' at a pinned commit of their repository.

Its content decides who speaks, so its sha256 is stated in the settings or computed from the file, and is part of the
fingerprint. It is a pickle, which could run code, so it is read by torch's weights-only reader, and its content is
checked before use.
"""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merc import files
from merc.errors import BadSettings, ModelUnavailable
from merc.media.config import Config

if TYPE_CHECKING:
    import torch

    from merc.media.active_speaker.network import Network

_SECONDS = 20.0
_AUTHORS_BYTES = 4_175_289
_MOST_BYTES = 8 * _AUTHORS_BYTES
_SHOWN = 3
_NAME_IN_PICKLE = re.compile(r"GLOBAL (\S+)")
_OF_TRAINING = re.compile(r"model\.\S+\.num_batches_tracked|lossV\.FC\.(weight|bias)")
# What torch's reader raises on damaged files, apart from errors about disallowed pickle content: it reads on until
# something does not fit.
_TORCH_SAYS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    AssertionError,
    ArithmeticError,
)


def content(config: Config) -> str:
    """Hex sha256 of the file, without fetching it.

    Raises:
        BadSettings: if there is no such local file.
    """
    return files.sha256(_local(config)) if config.speaker_file else config.speaker_sha256


def path(config: Config, *, offline: bool) -> Path:
    """The file. Fetches it if no local one is named and it is not in the cache, ``merc`` in huggingface_hub's folder
    (``HF_HOME``).

    Raises:
        BadSettings: if there is no such local file.
        ModelUnavailable: if it is not available, or differs from the file stated in the settings.
        CannotWrite: if the cache cannot be written.
    """
    if config.speaker_file:
        return _local(config)
    from huggingface_hub import constants

    cached = Path(constants.HF_HOME) / "merc" / "light_asd" / config.speaker_revision / Path(config.speaker_name).name
    found = files.sha256(cached) if cached.is_file() else ""
    if found == config.speaker_sha256:
        return cached
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            _how_to_get(
                config, cached, f"the file in the cache has the sha256 {found}" if found else "it is not in the cache"
            )
        )
    _fetch(config, cached)
    return cached


def load(weights_file: Path) -> "Network":
    """The network with the weights of a file, on the CPU, ready for inference.

    Raises:
        BadSettings: if the file holds something else: code, another network, non-finite numbers. The message names the
            file and what is wrong.
    """
    from merc.media.active_speaker.network import Network, shapes

    with _explained(weights_file):
        return Network.of(_checked(_tensors(weights_file), shapes()))


def _local(config: Config) -> Path:
    there = Path(config.speaker_file).resolve()
    if not there.is_file():
        what = "is a folder" if there.is_dir() else "is not there"
        raise BadSettings(
            f"media.speaker_file: {config.speaker_file!r} {what}; expected a file; leave it empty to use the authors'"
        )
    return there


def _address(config: Config) -> str:
    return f"{config.speaker_url}/{config.speaker_revision}/{config.speaker_name}"


def _how_to_get(config: Config, cached: Path, why: str) -> str:
    return (
        f"the weights of the active-speaker network are not available: {why}. With a network, this downloads them:\n"
        f"  curl --fail --location --create-dirs --output {cached} {_address(config)}\n"
        "Or name a local file as media.speaker_file, or use media.choice: speaking, which needs none."
    )


def _fetch(config: Config, cached: Path) -> None:
    """Stores the authors' file in the cache; complete and with the stated sha256, or not at all."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    address = _address(config)
    try:
        data = _downloaded(address)
    except (HTTPError, OSError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelUnavailable(_how_to_get(config, cached, words.rstrip("."))) from error
    if (found := hashlib.sha256(data).hexdigest()) != config.speaker_sha256:
        raise ModelUnavailable(
            _how_to_get(
                config,
                cached,
                f"the sha256 of what {address} sent is {found}, media.speaker_sha256 states {config.speaker_sha256}",
            )
        )
    with files.replacing(cached) as temporary:
        temporary.write_bytes(data)


def _downloaded(address: str) -> bytes:
    """The content at ``address``; if longer than ``_MOST_BYTES``, which no sha256 would match, only its start."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    data = bytearray()
    with get_session().stream("GET", address, timeout=_SECONDS) as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > _MOST_BYTES:
                break
    return bytes(data)


@contextmanager
def _explained(weights_file: Path) -> Iterator[None]:
    """Adds the name of the file to any error about it."""
    try:
        yield
    except OSError as error:
        raise BadSettings(f"media.speaker_file: {weights_file} cannot be read: {error.strerror}") from error
    except _NotTheWeights as error:
        raise BadSettings(
            f"media.speaker_file: {weights_file} does not hold the weights of Light-ASD: {error}"
        ) from error


class _NotTheWeights(Exception):
    """What is wrong with a file."""


def _tensors(weights_file: Path) -> Any:
    """The content of a file's pickle. Reading it takes no more memory than the file's size, and runs no code."""
    import torch

    _check_archive(weights_file)
    try:
        return torch.load(weights_file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = _NAME_IN_PICKLE.search(str(error))
        raise _NotTheWeights(
            f"its pickle asks for {name[1] if name else 'more than tensors'}; this could be code; none of it was"
            " executed"
        ) from error
    except _TORCH_SAYS as error:
        raise _NotTheWeights(f"torch cannot read it: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def _check_archive(weights_file: Path) -> None:
    files.check_kind(weights_file)
    size = weights_file.stat().st_size
    if size > _MOST_BYTES:
        raise _NotTheWeights(f"it has {size} bytes, and the file of the authors {_AUTHORS_BYTES}")
    if words := files.stand_in(weights_file):
        raise _NotTheWeights(f"it is {words}")
    try:
        with zipfile.ZipFile(weights_file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _NotTheWeights(f"it is not an archive as written by torch.save, or only part of one: {error}") from error
    if any(one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size for one in entries):
        raise _NotTheWeights("its archive is compressed, which torch.save does not do")


def _checked(tensors: Any, shapes: Mapping[str, tuple[int, ...]]) -> "Mapping[str, torch.Tensor]":
    """``tensors``, checked to be those of ``shapes`` and nothing else except leftovers of training."""
    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise _NotTheWeights(f"it holds a {type(tensors).__name__}, expected a mapping from names to tensors")
    if missing := [name for name in shapes if name not in tensors]:
        raise _NotTheWeights(f"it lacks {len(missing)} of {len(shapes)} tensors: {_first_of(missing)}")
    if more := [name for name in tensors if name not in shapes and not _OF_TRAINING.fullmatch(name)]:
        raise _NotTheWeights(f"it holds {len(more)} tensors more than the network has: {_first_of(more)}")
    for name, shape in shapes.items():
        if wrong := _fault(tensors[name], shape, is_variance=name.endswith(".running_var")):
            raise _NotTheWeights(f"{name} {wrong}")
    return tensors


def _fault(tensor: Any, shape: tuple[int, ...], *, is_variance: bool) -> str:
    """What is wrong with a tensor; empty if nothing is. Its values are checked only if their number is right."""
    import torch

    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return f"is not a tensor of numbers, but {type(tensor).__name__}"
    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        return f"is {tuple(tensor.shape)} of {tensor.dtype}, where {shape} of torch.float32 is expected"
    if not torch.isfinite(tensor).all():
        return "holds numbers that are not finite"
    return "holds a negative variance" if is_variance and bool((tensor < 0).any()) else ""


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
