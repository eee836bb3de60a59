import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from merc import plugins
from merc.errors import BadSettings, nearest

CONTRACT = """
from abc import ABC, abstractmethod
class Encoder(ABC):
    @abstractmethod
    def encode(self): ...
"""
ONE = """
from zoo.base import Encoder
class {name}(Encoder):
    def encode(self): return "{name}"
"""
FILES = {
    "__init__": "",
    "base": CONTRACT,
    "stage": "raise RuntimeError('a stage is no plug-in and must not be imported')",
    "_private": "raise RuntimeError('nor are private files')",
    "lion": ONE.format(name="Lion"),
    "tiger": ONE.format(name="Tiger") + "from zoo.lion import Lion\n",  # imported, thus not its own
    "panther": "from zoo.base import Encoder\nclass _Cat(Encoder): ...\nclass Panther(_Cat):\n    def encode(self): return 'Panther'\n",
    "twins": ONE.format(name="One") + ONE.format(name="Other"),
    "feeding": "PORTION_KG = 5\n",
}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of plug-ins."""
    (tmp_path / "zoo" / "annex").mkdir(parents=True)
    for name, source in FILES.items():
        (tmp_path / "zoo" / f"{name}.py").write_text(source)
    (tmp_path / "zoo" / "annex" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "zoo"
    for name in [name for name in sys.modules if name == "zoo" or name.startswith("zoo.")]:
        del sys.modules[name]


def _contract() -> type:
    from zoo.base import Encoder

    return Encoder  # type: ignore[no-any-return]


def test_the_files_of_a_folder_are_its_plug_ins(zoo: str) -> None:
    assert plugins.names(zoo) == ["feeding", "lion", "panther", "tiger", "twins"]


def test_files_that_define_no_plug_in_can_be_left_out(zoo: str) -> None:
    assert plugins.names(zoo, _contract()) == ["lion", "panther", "tiger"]


@pytest.mark.parametrize(("name", "expected"), [("lion", "Lion"), ("tiger", "Tiger"), ("panther", "Panther")])
def test_the_one_class_that_a_file_defines_is_loaded(zoo: str, name: str, expected: str) -> None:
    kind = plugins.load(zoo, name, _contract())
    assert kind.__name__ == expected
    assert kind().encode() == expected


@pytest.mark.parametrize("name", ["lino", "feeding", "base", "stage", "_private", "annex", "", "../lion", "lion.Lion", "os"])
def test_any_other_name_is_refused_with_the_plug_ins_there_are(zoo: str, name: str) -> None:
    with pytest.raises(BadSettings) as raised:
        plugins.load(zoo, name, _contract())
    assert str(raised.value).startswith(f"no Encoder named {name!r} in zoo; ")
    assert str(raised.value).endswith("valid: lion, panther, tiger")


def test_a_file_with_two_classes_is_no_plug_in(zoo: str) -> None:
    with pytest.raises(BadSettings, match=r"zoo\.twins defines 2 Encoder classes instead of one"):
        plugins.load(zoo, "twins", _contract())


def test_an_error_inside_a_plug_in_is_not_taken_for_a_wrong_name(zoo: str, tmp_path: Path) -> None:
    (tmp_path / "zoo" / "sick.py").write_text("import a_library_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        plugins.load(zoo, "sick", _contract())


def test_a_class_that_still_lacks_a_method_is_no_plug_in(zoo: str, tmp_path: Path) -> None:
    (tmp_path / "zoo" / "cub.py").write_text("from zoo.base import Encoder\nclass Cub(Encoder): ...\n")
    with pytest.raises(BadSettings, match="no Encoder named 'cub'"):
        plugins.load(zoo, "cub", _contract())


@pytest.mark.parametrize(
    ("name", "valid", "words"),
    [
        ("mled", ["meld", "iemocap"], "did you mean 'meld'? valid: iemocap, meld"),
        ("xyz", ["meld", "iemocap"], "valid: iemocap, meld"),
        ("xyz", [], "valid: none"),
    ],
)
def test_the_nearest_name_is_offered_if_there_is_a_near_one(name: str, valid: list[str], words: str) -> None:
    assert nearest(name, valid) == words
