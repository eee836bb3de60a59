"""What the settings of every model and framework promise; a new file in their folders is tested here automatically."""

from collections import Counter

import pytest

from merc import plugins
from merc.params import Settings
from merc.training.frameworks.base import Framework
from merc.training.models.engine.base import MERCModel

PACKAGES = {"merc.training.models": MERCModel, "merc.training.frameworks": Framework}
ALL = [
    pytest.param(plugins.load(package, name, base), id=f"{package}.{name}")
    for package, base in PACKAGES.items()
    for name in plugins.names(package, base)
]
every_kind = pytest.mark.parametrize("kind", ALL)


def fields(config, where=""):
    """Dotted key, field and class of every setting, including nested settings."""
    for key, field in type(config).model_fields.items():
        yield f"{where}{key}", field, type(config)
        if isinstance(value := getattr(config, key), Settings):
            yield from fields(value, f"{where}{key}.")


@every_kind
def test_the_settings_are_a_class_within_the_one_they_set(kind):
    assert kind.Config.__qualname__ == f"{kind.__name__}.Config"
    assert issubclass(kind.Config, Settings)


@every_kind
def test_every_setting_has_a_default_and_a_description(kind):
    assert [
        key for key, field, _ in fields(kind.Config()) if field.is_required() or not (field.description or "").strip()
    ] == []


@every_kind
def test_the_defaults_satisfy_the_bounds_of_the_settings(kind):
    """Defaults are not validated when nothing is given."""
    assert kind.Config.model_validate(kind.Config().model_dump()) == kind.Config()


def test_no_description_is_so_general_that_three_settings_share_it():
    counts = Counter()
    for kind in (param.values[0] for param in ALL):
        counts.update(
            field.description
            for key, field, owner in fields(kind.Config())
            if key.rpartition(".")[2] in owner.__annotations__
        )
    assert [description for description, count in counts.items() if count > 2] == []
