"""The unpickler: what it allows is restored faithfully; anything else a file asks for is refused by name, and nothing
is executed.
"""

import io
import os
import pickle
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merc.errors import BadTable
from merc.shards.circulation import unpickling

Pickled = Callable[..., Path]


class _Calls:
    """Is pickled as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


class _Sample:
    """As COGMEN's: a class of someone's code."""


def _global(name: str, arguments: bytes = b"") -> bytes:
    """A pickle of protocol 0 that calls ``module name`` with a string, written by hand: the names need not exist
    here.
    """
    module, _, function = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + function.encode() + b"\n(" + arguments + b"tR."


@pytest.mark.parametrize("protocol", range(6))
def test_containers_numbers_and_arrays_come_out_as_they_went_in(pickled: Pickled, protocol: int) -> None:
    arrays = [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype="u1"),
        np.array([True, False]),
        np.array(["é", "bc"]),
        np.array([b"x", b"yz"]),
        np.zeros((0, 4), dtype="f2"),
    ]
    path = pickled(
        {"arrays": arrays, 3: (None, True, 1.5, -(2**70), "é", b"\x80\x00", {1, 2}, frozenset("a"))}, protocol=protocol
    )
    content = unpickling.load_here(path)
    assert content[3] == (None, True, 1.5, -(2**70), "é", b"\x80\x00", {1, 2}, frozenset("a"))
    for found, array in zip(content["arrays"], arrays, strict=True):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")


def test_odd_dictionaries_scalars_and_rows_of_objects_become_plain_ones(pickled: Pickled) -> None:
    counted: defaultdict[str, list[int]] = defaultdict(list)
    counted["a"].append(1)
    path = pickled(
        [
            OrderedDict(b=1),
            counted,
            np.float32(0.5),
            np.int64(7),
            np.bool_(True),
            np.array(["x", None, np.arange(2)], dtype=object),
            bytearray(b"q"),
        ]
    )
    ordered, default, *scalars, objects, raw = unpickling.load_here(path)
    assert (type(ordered), ordered, type(default), default) == (dict, {"b": 1}, dict, {"a": [1]})
    assert scalars == [0.5, 7, True]
    assert [type(one) for one in scalars] == [float, int, bool]
    assert objects[:2] == ["x", None]
    np.testing.assert_array_equal(objects[2], [0, 1])
    assert raw == b"q"


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # numpy 1 under Python 2, protocol 2: a set, and an array whose bytes are a str of Python 2 (SHORT_BINSTRING, U).
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + struct.pack("<2f", 1.5, -2)
        + b"tb"
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02(c__builtin__\nset\n]U\x05Ses01a\x85R" + array + b"l.")
    found, values = unpickling.load_here(path)
    assert found == {"Ses01"}
    np.testing.assert_array_equal(values, np.array([1.5, -2], dtype=np.float32))


def test_parts_that_occur_twice_are_one_object(pickled: Pickled) -> None:
    row = [1, 2]
    first, second = unpickling.load_here(pickled([row, row]))
    assert first is second


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.exec",
        "builtins.getattr",
        "builtins.bytearray.fromhex",
        "__builtin__.open",
        "subprocess.Popen",
        "numpy.load",
        "numpy.f2py.diagnose.run_command",
        "numpy.testing._private.utils.runstring",
        "numpy.core.multiarray.fromfile",
        "functools.partial",
        "copyreg._reconstructor",
        "torch._utils._rebuild_tensor_v2",
        "cogmen.Sample.Sample",
    ],
)
def test_any_other_name_is_refused_and_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(_global(name, b"Vwhoami\n"))
    with pytest.raises(
        BadTable, match=f"hostile.pkl: refused: it asks for {name.replace('.', '[.]')}, .*Nothing in it was executed"
    ):
        unpickling.load_here(path)


def test_a_hostile_pickle_runs_nothing(pickled: Pickled, tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    hostile = {
        "labels": {"a": [1]},
        "text": [
            _Calls(os.system, f"touch {mark}"),
            _Calls(eval, f"open({str(mark)!r}, 'w')"),
            _Calls(Path.touch, mark),
        ],
    }
    for protocol in range(6):
        path = pickled(hostile, protocol=protocol)
        pickle.loads(path.read_bytes())  # noqa: S301 - it would
        assert mark.exists()
        mark.unlink()
        with pytest.raises(BadTable, match="refused: it asks for"):
            unpickling.load_here(path)
        assert not mark.exists()


def test_a_class_of_somebodys_code_is_refused_with_advice(pickled: Pickled) -> None:
    with pytest.raises(BadTable, match=r"_Sample, which is neither .* save it again as dictionaries"):
        unpickling.load_here(pickled([_Sample()]))


def test_a_stack_global_that_reaches_into_a_module_is_refused(tmp_path: Path) -> None:
    # Protocol 4 takes dotted names apart: numpy, "ndarray.__class__.__base__".
    path = tmp_path / "dotted.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x1andarray.__class__.__base__\x93.")
    with pytest.raises(BadTable, match=r"numpy\.ndarray\.__class__\.__base__"):
        unpickling.load_here(path)


def _array(*, shape: Any = (2,), dtype: Any = None, raw: Any = b"\0" * 8, subtype: Any = np.ndarray) -> _Calls:
    """An array with a chosen state."""
    return _Calls(
        np.empty(0).__reduce__()[0],
        subtype,
        (0,),
        b"b",
        state=(1, shape, np.dtype("f4") if dtype is None else dtype, False, raw),
    )


class _TamperedDType:
    """The dtype of a record with pointers whose flags say that it has none: numpy would use the array's bytes as
    addresses.
    """

    def __reduce__(self) -> Any:
        return np.dtype, ("V8", False, True), (3, "|", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 1, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_array(raw=b"\0" * 7), r"shape \(2,\) in it does not have the bytes"),
        (_array(shape=(10**15,)), "does not have the bytes"),
        (_array(shape=(-1,)), "no shape"),
        (_array(shape=2), "no shape"),
        (_array(subtype=list), "something that is not an array"),
        (_array(dtype=np.dtype("O"), raw=b"A" * 16), "an array of objects"),
        (_array(dtype=_TamperedDType()), "an array of the type 'V8'"),
        (np.zeros(2, dtype=[("a", "f4")]), "an array of the type 'V4'"),
        (np.zeros(2, dtype="c8"), "an array of the type 'c8'"),
        (np.zeros(2, dtype="M8[s]"), "an array of the type 'M8'"),
        (np.array([["a"]], dtype=object), "an array of objects"),
        (_Calls(bytearray, 10**15), "code page"),
        (_Calls(np.ndarray, 10**15), "in a way that numpy never writes"),
        ([np.dtype("f4")], "a DType where a value should be"),
        ([np.ndarray], "a StandIn where a value should be"),
        (1 + 2j, "complex"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_numpy_would_trust_is_checked(pickled: Pickled, content: Any, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        unpickling.load_here(pickled(content))


@pytest.mark.parametrize(
    "name",
    ["numpy\nndarray", "numpy\ndtype", "numpy.core.multiarray\n_reconstruct", "_codecs\nencode", "builtins\nlist"],
)
@pytest.mark.parametrize("state", [b"(dVplain\nI1\ns", b"(N(dV__defaults__\n(I1\ntstt", b"I1\n"])
def test_what_is_admitted_cannot_be_changed(tmp_path: Path, pickled: Pickled, name: str, state: bytes) -> None:
    # "b" sets the state of the object before it, which for a function or a class would be permanent.
    path = tmp_path / "changing.pkl"
    path.write_bytes(b"c" + name.encode() + b"\n" + state + b"b.")
    with pytest.raises(BadTable, match=r"changing\.pkl: (refused: it changes a function|not a pickle)"):
        unpickling.load_here(path)
    assert len(unpickling.load_here(pickled([np.zeros(2), [b"a"]]))) == 2


def test_a_reference_out_of_the_file_is_refused(tmp_path: Path) -> None:
    class Outside(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return "storage" if value == "x" else None

    stream = io.BytesIO()
    Outside(stream).dump(["x"])
    path = tmp_path / "torch.pkl"
    path.write_bytes(stream.getvalue())
    with pytest.raises(BadTable, match=r"refers to something outside the file, 'storage'.*torch\.save"):
        unpickling.load_here(path)


def test_buffers_next_to_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "apart.pkl"
    path.write_bytes(pickle.dumps(np.zeros(9), protocol=5, buffer_callback=lambda _: None))
    with pytest.raises(BadTable, match=r"damaged one: UnpicklingError: .*buffer"):
        unpickling.load_here(path)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x80\x02(lp0", b"garbage", b"\x80\x02]" * 3, b"\x8e" + b"\xff" * 8]
)
def test_what_is_not_a_whole_pickle_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(data)
    with pytest.raises(BadTable, match=r"odd\.pkl: not a pickle, or a damaged one"):
        unpickling.load_here(path)


def test_a_note_of_git_lfs_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "features.pkl"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(BadTable, match="a Git LFS pointer instead of the file"):
        unpickling.load(path)


def test_every_cut_through_a_pickle_is_an_error_that_names_the_file(tmp_path: Path, feature_files: Any) -> None:
    whole = pickle.dumps(feature_files.idcl(), protocol=2)
    path = tmp_path / "cut.pkl"
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(BadTable, match=r"cut\.pkl"):
            unpickling.load_here(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match=r"nothing\.pkl: cannot be read"):
        unpickling.load_here(tmp_path / "nothing.pkl")


def _nested_key(depth: int) -> bytes:
    """A dictionary whose only key is a tuple nested this deeply: hashing it takes a stack as deep."""
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s."


def _shared(depth: int, *, key: bool) -> bytes:
    """A pair of twice the same pair, and so on: 2^depth parts in a file of a few bytes; as a key it is hashed part by
    part.
    """
    pairs = (
        b")q\x000"
        + b"".join(
            b"h" + bytes([one]) + b"h" + bytes([one]) + b"\x86q" + bytes([one + 1]) + b"0" for one in range(depth)
        )
        + b"h"
        + bytes([depth])
    )
    return b"\x80\x02}" + pairs + b"K\x01s." if key else b"\x80\x02" + pairs + b"."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_nested_key(1_000_000), "the process that read it did not finish .its process was killed by SIG"),
        (_nested_key(100), "nested more than 32 deep|a key in it is tuple"),
        (b"\x80\x02" + b"]" * 200 + b"a" * 199 + b".", "nested more than 32 deep"),
        (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "not a pickle, or a damaged one: RecursionError"),
        (b"\x80\x02]q\x00h\x00a.", "a container in it contains itself"),
        (_shared(30, key=False), "it unfolds to more than 50000000 parts"),
        (b"\x80\x02\x8a\xff" + b"\xff" * 40 + b".", "not a pickle, or a damaged one"),
    ],
    ids=["deep key", "key", "deep", "very deep", "circle", "bomb", "cut"],
)
def test_what_would_end_or_hold_up_its_reader_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(content)
    with pytest.raises(BadTable, match=rf"hostile\.pkl: .*({words})"):
        unpickling.load(path)


def test_a_key_that_takes_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(_shared(60, key=True))
    monkeypatch.setattr(unpickling, "_LIMIT_SECONDS", 1.0)
    with pytest.raises(BadTable, match=r"hostile\.pkl: refused: .*not done within 1 s"):
        unpickling.load(path)


def test_more_memory_than_a_file_can_need_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(b"\x80\x02" + b"(" * 10 + b"]" * 10 + b"\x8e" + (2**40).to_bytes(8, "little") + b".")
    with pytest.raises(BadTable, match=r"hostile\.pkl: not a pickle"):
        unpickling.load(path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "features.pkl")
    with pytest.raises(BadTable, match=r"features\.pkl: not a regular file"):
        unpickling.load(tmp_path / "features.pkl")


def test_what_is_read_apart_is_what_is_read_here(pickled: Pickled) -> None:
    path = pickled({"labels": {"a": [1, 2]}, ("a", 1): np.arange(3.0)})
    here, apart = unpickling.load_here(path), unpickling.load(path)
    assert apart["labels"] == here["labels"]
    np.testing.assert_array_equal(apart["a", 1], here["a", 1])
