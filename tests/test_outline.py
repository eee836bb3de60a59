"""The outline of a plug-in, read from its file, agrees with what pydantic knows of its settings."""

import ast

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from merc import outline, plugins
from merc.errors import BadSettings
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel

BASES = {"models": MERCModel, "losses": MERCLoss, "frameworks": Framework}
EVERY = [(kind, name) for kind, base in BASES.items() for name in plugins.names(f"merc.training.{kind}", base)]


def _config(kind: str, name: str) -> type[BaseModel]:
    loaded = plugins.load(f"merc.training.{kind}", name, BASES[kind])
    config: type[BaseModel] = loaded.Config  # type: ignore[attr-defined]
    return config


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_fields_descriptions_and_defaults_are_those_of_the_class(kind: str, name: str) -> None:
    found, fields = outline.read(f"merc.training.{kind}", name).settings, _config(kind, name).model_fields
    assert [one.name for one in found] == list(fields)
    for one in found:
        field = fields[one.name]
        assert one.about == " ".join((field.description or "").split()), one.name
        assert (one.default == "") == (field.default is PydanticUndefined and field.default_factory is None), one.name
        try:
            default = ast.literal_eval(one.default)
        except ValueError:  # a constant, or nested settings
            assert one.default.removesuffix("()").isidentifier(), one.name
        else:
            assert default == field.get_default(call_default_factory=True), one.name


def test_bounds_choices_and_aliases_are_spelled_out() -> None:
    types = {one.name: one.type for one in outline.read("merc.training.losses", "supcon").settings}
    assert types == {
        "projection_units": "int ≥ 0",
        "temperature": "float > 0",
        "form": "'out' | 'in_mean' | 'in_sum'",
        "candidates": "'all' | 'neg'",
        "class_balanced": "bool",
    }
    assert {one.name: one.type for one in outline.read("merc.training.losses", "prototype").settings} == {
        "margin": "float ≥ 0",
        "memory": "float ≥ 0, ≤ 1",
    }


def test_a_title_is_the_first_sentence_of_the_file() -> None:
    titles = outline.titles("merc.training.losses")
    assert sorted(titles) == plugins.names("merc.training.losses")
    assert titles["focal"].startswith("Focal loss: ")
    assert not [title for title in titles.values() if not title or "\n" in title or title.endswith(".")]


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(BadSettings, match=r"no 'supcom' among the losses.*did you mean 'supcon'"):
        outline.read("merc.training.losses", "supcom")


def test_a_file_whose_class_has_no_settings_is_an_error() -> None:
    with pytest.raises(BadSettings, match=r"merc\.training\.metrics\.weighted_f1 has no class with a Config nested"):
        outline.read("merc.training.metrics", "weighted_f1")
