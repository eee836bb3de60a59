"""A folder is a registry: the file's name is the plug-in's name. No list to extend, no ``__init__`` to edit."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from merc.errors import BadSettings, nearest

_Base = TypeVar("_Base")
_NOT_PLUGINS = {"base", "stage"}
_PUBLIC_CLASS = re.compile(r"^class ([A-Za-z]\w*)\s*[(:]", re.MULTILINE)


def names(package: str, base: type | None = None) -> list[str]:
    """The modules directly in ``package`` (dotted name), sorted, without ``base``, ``stage`` and private ones.

    Args:
        package: dotted name.
        base: leave out modules that define no subclass of it (in a folder where plug-ins are not alone); this imports all of them.
    """
    folder = importlib.import_module(package)
    found = (module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg)
    modules = sorted(name for name in found if name not in _NOT_PLUGINS and not name.startswith("_"))
    return modules if base is None else [name for name in modules if len(_classes(package, name, base)) == 1]


def _classes(package: str, name: str, base: type[_Base]) -> list[type[_Base]]:
    """The subclasses of ``base`` that are defined in a module, not those it imports."""
    module = importlib.import_module(f"{package}.{name}")
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__ and not inspect.isabstract(value)
    ]


def load(package: str, name: str, base: type[_Base]) -> type[_Base]:
    """The one subclass of ``base`` that is defined in the module ``name`` of ``package``.

    Raises:
        BadSettings: if there is no such module, or it does not define exactly one such class; the nearest name is given.
    """
    classes = _classes(package, name, base) if name in names(package) else []
    if not classes:
        raise BadSettings(f"no {base.__name__} named {name!r} in {package}; {nearest(name, names(package, base))}")
    if len(classes) > 1:
        raise BadSettings(f"{package}.{name} defines {len(classes)} {base.__name__} classes instead of one, so its file is no plug-in")
    return classes[0]


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package from which every public class of its files can be imported.

    A file is imported when one of its classes is asked for, not before. Files of nested packages count; those whose
    names begin with ``_`` do not.

        __getattr__, __dir__ = plugins.exports(__name__)

    Args:
        package: dotted name.

    Returns:
        Both functions. The first raises ``AttributeError`` with the nearest name, or with the modules to choose from if
        several define the class.
    """

    def get(name: str) -> Any:
        found = _public_classes(package)
        modules = found.get(name, [])
        if not modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {nearest(name, list(found))}")
        if len(modules) > 1:
            raise AttributeError(f"{name} is defined in {' and '.join(modules)}; import it from one of them")
        return getattr(importlib.import_module(modules[0]), name)

    def names_there() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *_public_classes(package)})

    return get, names_there


def _public_classes(package: str) -> dict[str, list[str]]:
    """Class → the modules that define it; read from the text, as importing is slow and one broken file would hide all."""
    found: dict[str, list[str]] = {}
    for folder in map(Path, importlib.import_module(package).__path__):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if any(part.startswith("_") for part in parts):
                continue
            for name in _PUBLIC_CLASS.findall(path.read_text(encoding="utf-8", errors="replace")):
                found.setdefault(name, []).append(".".join((package, *parts)))
    return found
