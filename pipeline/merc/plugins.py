"""A folder is a registry: the file's name is the plug-in's name. No list to extend, no ``__init__`` to edit."""

import importlib
import inspect
import pkgutil
from typing import TypeVar

from merc.errors import BadSettings, nearest

_Base = TypeVar("_Base")
_NOT_PLUGINS = {"base", "stage"}


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
