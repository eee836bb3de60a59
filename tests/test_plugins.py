import importlib
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
    "stage": "raise RuntimeError('a stage is not a plug-in and must not be imported')",
    "_private": "raise RuntimeError('nor are private files')",
    "lion": ONE.format(name="Lion"),
    "tiger": ONE.format(name="Tiger") + "from zoo.lion import Lion\n",  # imported, so not its own
    "panther": (
        "from zoo.base import Encoder\nclass _Cat(Encoder): ...\nclass Panther(_Cat):\n    def encode(self): return"
        " 'Panther'\n"
    ),
    "twins": ONE.format(name="One") + ONE.format(name="Other"),
    "feeding": "PORTION_KG = 5\n",
}
CLASSES = "Bear, Encoder, Keeper, Lion, One, Other, Panther, Sick, Tiger"  # of the zoo that exports them


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


@pytest.mark.parametrize(
    "name", ["lino", "feeding", "base", "stage", "_private", "annex", "", "../lion", "lion.Lion", "os"]
)
def test_any_other_name_is_refused_with_the_plug_ins_there_are(zoo: str, name: str) -> None:
    with pytest.raises(BadSettings) as raised:
        plugins.load(zoo, name, _contract())
    assert str(raised.value).startswith(f"no Encoder named {name!r} in zoo; ")
    assert str(raised.value).endswith("valid: lion, panther, tiger")


def test_a_file_with_two_classes_is_not_a_plug_in(zoo: str) -> None:
    with pytest.raises(BadSettings, match=r"zoo\.twins defines 2 Encoder classes instead of one"):
        plugins.load(zoo, "twins", _contract())


def test_an_error_inside_a_plug_in_is_not_taken_for_a_wrong_name(zoo: str, tmp_path: Path) -> None:
    (tmp_path / "zoo" / "sick.py").write_text("import a_library_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        plugins.load(zoo, "sick", _contract())


@pytest.fixture
def open_zoo(zoo: str, tmp_path: Path) -> str:
    """The package with its classes exported, one file that does not compile, and a class in two files."""
    opened = "from merc import plugins\n__getattr__, __dir__ = plugins.exports(__name__)\n"
    (tmp_path / "zoo" / "__init__.py").write_text(opened)
    (tmp_path / "zoo" / "sick.py").write_text("class Sick:\n    def is not python\n")
    bear = '"""\nclass of its own\n"""\nclass Bear: ...\nclass Keeper:\n    class Config: ...\n'
    (tmp_path / "zoo" / "annex" / "bear.py").write_text(bear)
    (tmp_path / "zoo" / "night.py").write_text("class Keeper: ...\n")
    return zoo


def test_a_class_can_be_imported_from_the_package_and_no_other_file_is(open_zoo: str) -> None:
    from zoo import Bear, Lion

    assert (Lion.__module__, Bear.__module__) == ("zoo.lion", "zoo.annex.bear")
    assert {name for name in sys.modules if name.startswith("zoo.")} == {
        "zoo.lion",
        "zoo.base",
        "zoo.annex",
        "zoo.annex.bear",
    }


def test_a_package_lists_the_public_classes_of_its_files(open_zoo: str) -> None:
    package = importlib.import_module(open_zoo)
    assert [name for name in dir(package) if name[0].isupper()] == CLASSES.split(", ")
    assert "zoo.lion" not in sys.modules


@pytest.mark.parametrize("name", ["Lino", "_Cat", "Config", "of"])
def test_a_class_that_no_file_defines_is_an_attribute_error_with_the_nearest_name(open_zoo: str, name: str) -> None:
    package = importlib.import_module(open_zoo)
    with pytest.raises(AttributeError) as raised:
        getattr(package, name)
    hint = "did you mean 'Lion'? " if name == "Lino" else ""
    assert str(raised.value) == f"module 'zoo' has no attribute {name!r}; {hint}valid: {CLASSES}"


def test_a_class_that_two_files_define_is_an_attribute_error_with_both(open_zoo: str) -> None:
    package = importlib.import_module(open_zoo)
    with pytest.raises(
        AttributeError, match=r"Keeper is defined in zoo\.annex\.bear and zoo\.night; import it from one of them"
    ):
        _ = package.Keeper


def test_a_file_that_does_not_compile_says_so_itself_when_its_class_is_asked_for(open_zoo: str) -> None:
    package = importlib.import_module(open_zoo)
    with pytest.raises(SyntaxError, match=r"sick\.py"):
        _ = package.Sick


def test_files_can_still_be_imported_from_a_package_that_exports_classes(open_zoo: str) -> None:
    from zoo import feeding

    assert feeding.PORTION_KG == 5


def test_a_class_that_still_lacks_a_method_is_not_a_plug_in(zoo: str, tmp_path: Path) -> None:
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
