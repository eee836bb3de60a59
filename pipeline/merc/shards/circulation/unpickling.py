"""Reads untrusted pickles: builtin containers and numpy arrays, without running anything that the file requests.

A pickle is a program: it names functions, and loading it calls them. Here every name is mapped to a stand-in in this
file or refused. Not even numpy's own functions are called, because numpy trusts the state that it is given: an array
with a manipulated dtype reads and frees memory at addresses chosen by the file. The stand-ins store their arguments,
check them, and build arrays of plain numbers and strings.

A file can still be crafted to require more memory or time than available, or, with a dictionary key that is a tuple
nested a million deep, to crash the process that reads it. So a separate process reads it, with limits, and returns only
plain, shallow content that is not larger than a corpus can be.
"""

import math
import pickle
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from merc.compute import pool
from merc.errors import BadTable
from merc.files import stand_in

_ADVICE = (
    "Nothing in it was executed. If you trust its source, load it with the code it belongs to, and save it again as"
    " dictionaries, lists, strings, numbers and numpy arrays (a tensor by its .numpy())."
)
_LIMIT_SECONDS = 600.0
# COSMIC's MELD file, of 440 MB, needs 1.4 GB with the libraries.
_LEAST_MEMORY_BYTES = 2 * 2**30
_MEMORY_OF_FILES = 10
# The deepest layout has 4 nested containers, the largest file (COSMIC's DailyDialog) half a million parts.
_DEEPEST = 32
_MOST_PARTS = 50_000_000
_LONGEST_KEY = 8
_NUMPY_CORES = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")
# Integers, floating-point numbers, booleans, strings of fixed length; "O" for arrays of other allowed things.
_PLAIN_DTYPE = re.compile(r"[iu][1248]|f[248]|b1|[US][0-9]{1,6}|O8?")


def load(path: Path) -> Any:
    """Reads a pickle, of Python 2 or 3, of any protocol, in a separate process.

    Args and Returns: those of :func:`load_here`.

    Raises:
        BadTable: as :func:`load_here`; and if reading it ended the process, or needed more than ten minutes or ten
            times the file's size in memory.
    """
    if not path.is_file():  # for example a named pipe, which would block
        raise BadTable(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    with pool.Crew(_load_apart, 1) as crew:
        crew.submit(0, path, limit_seconds=_LIMIT_SECONDS)
        _, outcome = crew.next_outcome()
    if not isinstance(outcome, pool.Lost):
        return outcome
    if isinstance(outcome.error, BadTable):
        raise outcome.error
    words = f"{type(outcome.error).__name__}: {outcome.error}" if outcome.error is not None else outcome.words
    raise BadTable(f"{path}: refused: the process that read it did not finish ({words}). {_ADVICE}")


def _load_apart(path: Path) -> Any:
    most = _LEAST_MEMORY_BYTES + _MEMORY_OF_FILES * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return load_here(path)


def load_here(path: Path) -> Any:
    """Reads a pickle in this process, which a malicious one may crash.

    Args:
        path: the file.

    Returns:
        Its content, consisting only of None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset and numpy
        arrays without objects. Ordered and default dictionaries become plain ones, numpy scalars numbers, and arrays of
        objects lists.

    Raises:
        BadTable: if it cannot be opened, is truncated or not a pickle, or names anything else, which the message
            states; or if it is nested deeper, contains more, or has other keys than circulating feature files.
    """
    try:
        with path.open("rb") as file:
            plain = _resolved(_Unpickler(file, encoding="latin1").load(), {})
        _Measure().check(plain)
        return plain
    except OSError as error:
        raise BadTable(f"{path}: cannot be read: {error}") from error
    except _Refused as error:
        raise BadTable(f"{path}: refused: {error}. {_ADVICE}") from error
    # All exceptions of the unpickler, and of building an object from invalid parts, for a damaged file.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise BadTable(
            f"{path}: not a pickle, or a damaged one: {stand_in(path) or f'{type(error).__name__}: {error}'}"
        ) from error


class _Refused(Exception):
    """The file requests something that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _ADMITTED.get((module, name))
        if stand_in is None:
            raise _Refused(f"it asks for {module}.{name}, which is neither a container nor an array of numpy")
        return stand_in

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"it refers to something outside the file, {str(pid)[:80]!r}, as files written by torch.save do")


class _StandIn:
    """The target of a name: the file may call it, but not set its state, which would change it for all later files."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes a function")


class _DType:
    """Stand-in for ``numpy.dtype``: a code such as ``f4``, whose byte order is set as state."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _Refused(f"it holds an array of the type {str(code)[:80]!r}; only numbers and strings are accepted")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        _version, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
            raise _Refused("it holds an array of records, or of another composed type")
        self.order = order

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")

    def plain(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for an array, which is created empty and then given its state."""

    __slots__ = ("values",)

    def __init__(self, values: Any = None) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.values = _values(shape, dtype, raw, "F" if fortran else "C")


def _values(shape: Any, dtype: Any, raw: Any, order: Any) -> Any:
    """An array in the machine's byte order; of objects, a list.

    Raises:
        _Refused: if the parts are invalid, or the number of bytes does not match the shape.
    """
    if (
        not isinstance(shape, tuple)
        or not all(isinstance(size, int) and size >= 0 for size in shape)
        or not isinstance(dtype, _DType)
        or order not in ("C", "F")
    ):
        raise _Refused("an array in it has no shape, or no type")
    if dtype.is_object:
        if not isinstance(raw, list) or len(shape) > 1 or len(raw) != math.prod(shape):
            raise _Refused(f"it holds an array of objects of the shape {shape}; only rows of them are accepted")
        return raw
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # a string of Python 2
    kind = dtype.plain()
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * kind.itemsize:
        raise _Refused(f"an array of the shape {shape} in it does not have the bytes that it needs")
    return np.frombuffer(data, dtype=kind).reshape(shape, order=order).astype(kind.newbyteorder("="), order="C")


def _reconstruct(subtype: Any, *_: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise _Refused("it asks numpy to make something that is not an array")
    return _Array()


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> _Array:
    return _Array(_values(shape, dtype, buffer, order))


def _scalar(dtype: Any, raw: Any = None) -> Any:
    values = _values((1,), dtype, [raw] if isinstance(dtype, _DType) and dtype.is_object else raw, "C")
    return values[0] if isinstance(values, list) else values[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes as protocols below 3 write them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"it asks for bytes by the code page {str(encoding)[:80]!r}")
    return text.encode("latin1")


def _bytes(content: Any = b"", encoding: Any = "latin1") -> bytes:
    """``bytes`` and ``bytearray``, except with a given length."""
    return bytes(content) if isinstance(content, bytes | bytearray) else _encode(content, encoding)


def _no_array(*_: Any) -> None:
    raise _Refused("it makes an array in a way that numpy never writes")


_NDARRAY = _StandIn(_no_array)  # a class that pickles only refer to by name

_ADMITTED: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _StandIn(_DType),
    ("collections", "OrderedDict"): _StandIn(dict),
    ("collections", "defaultdict"): _StandIn(lambda *_factory: {}),
    ("_codecs", "encode"): _StandIn(_encode),
    # Before and since numpy 2.
    **{(f"{core}.multiarray", "_reconstruct"): _StandIn(_reconstruct) for core in _NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): _StandIn(_scalar) for core in _NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _StandIn(_frombuffer) for core in _NUMPY_CORES},
    # Python 3 and 2.
    **{
        (builtins, kind.__name__): _StandIn(kind)
        for builtins in _BUILTINS
        for kind in (list, tuple, dict, set, frozenset)
    },
    **{(builtins, name): _StandIn(_bytes) for builtins in _BUILTINS for name in ("bytes", "bytearray")},
}


class _Measure:
    """Depth and size of plain containers; shared parts count each time, since code that traverses the content visits
    them each time.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}  # 0: being measured

    def check(self, value: Any) -> None:
        """Raises ``_Refused`` if ``value`` is too deep, too large, contains itself, or has a key that is not text, a
        number or a short tuple of these.
        """
        if self._size(value, 0) > _MOST_PARTS:
            raise _Refused(f"it unfolds to more than {_MOST_PARTS} parts")

    def _size(self, value: Any, depth: int) -> int:
        if not isinstance(value, list | tuple | dict | set | frozenset):
            return 1
        if depth > _DEEPEST:
            raise _Refused(f"it is nested more than {_DEEPEST} deep")
        size = self._sizes.get(id(value))
        if size == 0:
            raise _Refused("a container in it contains itself")
        if size is None:
            self._sizes[id(value)] = 0
            members = value.values() if isinstance(value, dict) else value
            for key in value if isinstance(value, dict | set | frozenset) else ():
                _check_key(key)
            size = 1 + sum(self._size(one, depth + 1) for one in members)
            self._sizes[id(value)] = size
        return size


def _check_key(key: Any) -> None:
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > _LONGEST_KEY or not all(isinstance(part, str | bytes | int | float | None) for part in parts):
        raise _Refused(f"a key in it is {type(key).__name__!s} of other things than text and numbers")


def _resolved(value: Any, done: dict[int, Any]) -> Any:
    """``value`` with arrays instead of their stand-ins; ``done`` maps ids to resolved objects, so that shared parts
    stay shared.
    """
    if isinstance(value, _Array):
        return value.values if isinstance(value.values, np.ndarray) else _resolved(value.values, done)
    if not isinstance(value, list | tuple | dict | set | frozenset):
        if not isinstance(value, str | bytes | bytearray | int | float | None):
            raise _Refused(f"it holds a {type(value).__name__.strip('_')} where a value should be")
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, list):
        members: list[Any] = []
        done[id(value)] = members  # before its members, since it may be one of them
        members.extend(_resolved(one, done) for one in value)
        return members
    if isinstance(value, dict):
        table: dict[Any, Any] = {}
        done[id(value)] = table
        table.update((_resolved(key, done), _resolved(one, done)) for key, one in value.items())
        return table
    done[id(value)] = plain = type(value)(_resolved(one, done) for one in value)
    return plain
