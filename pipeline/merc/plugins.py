"""A folder is a registry: the file's name is the plug-in's name. No list to extend, no ``__init__`` to edit.

Another distribution adds plug-ins by entry points, each naming a class; they are imported only when requested:

    [project.entry-points."merc.models"]                 merc.corpora, merc.encoders.text (.audio, .visual), merc.models,
    mine = "my_package.mine:MyModel"                     merc.losses, merc.frameworks, merc.metrics,
                                                         merc.evaluation.protocols (.comparisons)
"""  # noqa: E501

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from merc.errors import BadPlugin, BadSettings, nearest

_Base = TypeVar("_Base")
_NOT_PLUGINS = {"base", "stage"}
_PUBLIC_CLASS = re.compile(r"^class ([A-Za-z]\w*)\s*[(:]", re.MULTILINE)


def names(package: str, base: type | None = None) -> list[str]:
    """The plug-ins of a folder, sorted: the modules directly in ``package`` without ``base``, ``stage`` and private
    ones, and the entry points of its group.

    Args:
        package: dotted name.
        base: leave out modules that define no subclass of it (in a folder that contains other modules, too); this
            imports all modules, but no entry points, which are plug-ins by declaration.
    """
    files = _files(package)
    if base is not None:
        files = [name for name in files if len(_classes(package, name, base)) == 1]
    return sorted({*files, *_entry_points(package)})


def group(package: str) -> str:
    """The entry points that belong to a package.

    Example:
        >>> group("merc.training.models"), group("merc.encoders.text")
        ('merc.models', 'merc.encoders.text')
    """
    return package.replace("merc.training.", "merc.")


def load(package: str, name: str, base: type[_Base]) -> type[_Base]:
    """The subclass of ``base`` with a name: the one defined in the module ``name`` of ``package``, or the one that an
    entry point refers to.

    Raises:
        BadSettings: if there is none (the message gives the nearest name), or the module does not define exactly one
            such class.
        BadPlugin: if there are several (the message names all), or the entry point cannot be imported or is not such a
            class (the message names it and its distribution).
    """
    points = _entry_points(package).get(name, [])
    in_file = name in _files(package)
    if len(points) + in_file > 1:
        places = [*[f"the file {package}.{name}"] * in_file, *map(_words, points)]
        raise BadPlugin(
            f"there are {len(places)} {base.__name__} plug-ins named {name!r}: {' and '.join(places)}; rename or"
            " uninstall one"
        )
    if points:
        return _loaded(points[0], package, base)
    classes = _classes(package, name, base) if in_file else []
    if not classes:
        raise BadSettings(f"no {base.__name__} named {name!r} in {package}; {nearest(name, names(package, base))}")
    if len(classes) > 1:
        raise BadSettings(
            f"{package}.{name} defines {len(classes)} {base.__name__} classes instead of one, so its file is not a"
            " plug-in"
        )
    return classes[0]


def place(package: str, name: str) -> tuple[str, str]:
    """The module of a plug-in, and its class, without importing it.

    Args:
        package: dotted name.
        name: name of the plug-in.

    Returns:
        The dotted name of the module, and the name of the class if an entry point states it, otherwise an empty string.

    Raises:
        BadSettings: if there is no such plug-in; the message gives the nearest name.
    """
    points = _entry_points(package).get(name, [])
    if points:
        return points[0].module, points[0].attr
    if name not in _files(package):
        raise BadSettings(f"no {name!r} among the {package.rpartition('.')[2]}; {nearest(name, names(package))}")
    return f"{package}.{name}", ""


def _files(package: str) -> list[str]:
    folder = importlib.import_module(package)
    found = (module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg)
    return sorted(name for name in found if name not in _NOT_PLUGINS and not name.startswith("_"))


def _classes(package: str, name: str, base: type[_Base]) -> list[type[_Base]]:
    """The subclasses of ``base`` that are defined in a module, not those it imports."""
    module = importlib.import_module(f"{package}.{name}")
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _entry_points(package: str) -> dict[str, list[EntryPoint]]:
    """Name → the entry points with that name in a package's group."""
    found: dict[str, list[EntryPoint]] = {}
    for point in _installed(group(package), tuple(sys.path)):
        found.setdefault(point.name, []).append(point)
    return found


@functools.cache
def _installed(wanted: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group on a path; cached, since finding them reads a file per installed distribution."""
    return tuple(entry_points(group=wanted))


def _words(point: EntryPoint) -> str:
    return (
        f"the entry point {point.name} = {point.value!r} of"
        f" {f'{point.dist.name} {point.dist.version}' if point.dist else 'a distribution'}"
    )


def _loaded(point: EntryPoint, package: str, base: type[_Base]) -> type[_Base]:
    try:
        kind = point.load()
    except Exception as error:  # whatever third-party code raises
        raise BadPlugin(
            f"{base.__name__} {point.name!r}: {_words(point)} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (inspect.isclass(kind) and issubclass(kind, base)):
        raise BadPlugin(
            f"{base.__name__} {point.name!r}: {_words(point)} is not a subclass of {base.__module__}.{base.__name__}"
        )
    if inspect.isabstract(kind):
        raise BadPlugin(
            f"{base.__name__} {point.name!r}: {_words(point)} lacks"
            f" {', '.join(sorted(getattr(kind, '__abstractmethods__', ())))}"
        )
    return kind


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package from which every public class of its files can be imported.

    A file is imported when one of its classes is requested, not before. Files of nested packages are included; those
    whose names start with ``_`` are not.

        __getattr__, __dir__ = plugins.exports(__name__)

    Args:
        package: dotted name.

    Returns:
        The two functions. The first raises ``AttributeError`` with the nearest name, or with the modules to choose from
        if several define the class.
    """

    def get(name: str) -> Any:
        found = public_classes(package)
        modules = found.get(name, [])
        if not modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {nearest(name, list(found))}")
        if len(modules) > 1:
            raise AttributeError(f"{name} is defined in {' and '.join(modules)}; import it from one of them")
        return getattr(importlib.import_module(modules[0]), name)

    def names_there() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *public_classes(package)})

    return get, names_there


def public_classes(package: str) -> dict[str, list[str]]:
    """Class → the modules of a package that define it; read from the source text, since importing is slow and one
    broken file would hide all classes.
    """
    found: dict[str, list[str]] = {}
    for folder in map(Path, importlib.import_module(package).__path__):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if any(part.startswith("_") for part in parts):
                continue
            for name in _PUBLIC_CLASS.findall(path.read_text(encoding="utf-8", errors="replace")):
                found.setdefault(name, []).append(".".join((package, *parts)))
    return found
