"""Every setting is described individually, in a docstring below the field."""

import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType

import merc
from merc.params import Settings

# Packages whose settings are not documented yet; to be emptied.
UNDOCUMENTED_YET = ("merc.training",)


def _classes(holder: ModuleType | type) -> Iterator[type]:
    """The classes that are defined in a module, and those defined inside them."""
    prefix = "" if inspect.ismodule(holder) else f"{holder.__qualname__}."
    module = holder.__name__ if inspect.ismodule(holder) else holder.__module__
    for name, value in vars(holder).items():
        if inspect.isclass(value) and (value.__module__, value.__qualname__) == (module, prefix + name):
            yield value
            yield from _classes(value)


def _settings() -> dict[str, type[Settings]]:
    """The subclasses of ``Settings`` by their full names."""
    found: dict[str, type[Settings]] = {}
    for info in pkgutil.walk_packages(merc.__path__, "merc."):
        if not info.name.startswith(UNDOCUMENTED_YET):
            classes = _classes(importlib.import_module(info.name))
            found |= {f"{info.name}.{one.__qualname__}": one for one in classes if issubclass(one, Settings)}
    return found


def _descriptions() -> dict[str, str]:
    """The description of each setting by its full name; an inherited one counts for the class that defines it."""
    return {
        f"{where}.{name}": field.description or ""
        for where, config in _settings().items()
        for name, field in config.model_fields.items()
        if name in inspect.get_annotations(config)
    }


def test_the_settings_are_found() -> None:
    assert {
        "merc.media.config.Config",
        "merc.adaptation.config.Config.Lora",
        "merc.encoders.text.ngrams.Ngrams.Config",
    } <= _settings().keys()


def test_every_setting_has_a_description() -> None:
    assert [name for name, text in _descriptions().items() if not text.strip()] == []


def test_no_description_is_shared_by_three_settings() -> None:
    sharing: dict[str, list[str]] = defaultdict(list)
    for name, text in _descriptions().items():
        sharing[" ".join(text.split())].append(name)
    assert {text: names for text, names in sharing.items() if len(names) >= 3} == {}
