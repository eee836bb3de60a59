"""Every shipped settings file, key by key: DVC can change it without touching another line, ``--set`` reaches what the
key belongs to and nothing else, and no key repeats what already holds without it. A new file is tested here
automatically.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

import merc.params
from merc.adaptation import stage as adaptation
from merc.adaptation.listing import MODALITIES as ADAPTED
from merc.commands.extract import chosen_encoders
from merc.commands.resolve import resolve_all, sources
from merc.corpora import stage as corpora
from merc.encoders.engine import registry
from merc.errors import BadSettings
from merc.job import flat
from merc.layout import MODALITIES
from merc.media.config import of_preset
from merc.params import Params, Shelf
from merc.training.recipes.composition import ADDITIONS, RECIPES, RecipeName
from merc.training.recipes.resolution import resolve
from merc.training.recipes.shelves import SWEEPS
from merc.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "nowhere"  # a value that no setting can have
# Shipped files and overrides are parsed once for all tests, which use the same ones thousands of times.
_loaded, _parsed = cache(Shelf._load), cache(merc.params._parsed)
Plan = dict[str, Any]


def _recipe(params: Params, name: str) -> Plan:
    resolved = resolve(params, name)
    return {**resolved.settings(), "about": resolved.recipe.about}


def _addition(params: Params, name: str) -> Plan:
    return {
        "about": ADDITIONS.read(params, name).at("about"),
        "over a recipe": _recipe(params, f"{_base(name)}+{name}"),
    }


@cache
def _base(addition: str) -> str:
    """A recipe that an addition fits; one that is "of mmgcn" or "after dclf" names it itself."""
    about = ADDITIONS.read(Params({}), addition).at("about")
    named = re.match(r"(of|after) (\w+)", about)
    if named:
        return named[2] if named[1] == "of" else f"{RECIPES.shipped()[0]}+{named[2]}"
    return next(recipe for recipe in RECIPES.shipped() if _fits(recipe, addition))


def _fits(recipe: str, addition: str) -> bool:
    try:
        resolve(Params({}), f"{recipe}+{addition}")
    except BadSettings:
        return False
    return True


def _encoder(modality: str) -> Callable[[Params, str], Plan]:
    return lambda params, name: registry.choose(params, modality, name).config.model_dump(mode="json")


def _corpus(params: Params, name: str) -> Plan:
    return corpora.choose(params, name).reader.config.model_dump(mode="json")


def _adaptation(modality: str, encoder: str) -> Callable[[Params, str], Plan]:
    def plan(params: Params, name: str) -> Plan:
        chosen = adaptation.choose(params, modality=modality, encoder=encoder, settings=name)
        return {**chosen.config.model_dump(mode="json"), "encoder": chosen.encoder.config.model_dump(mode="json")}

    return plan


@pytest.fixture(autouse=True)
def _files_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "_load", _loaded)
    monkeypatch.setattr(merc.params, "_parsed", _parsed)


@dataclass(frozen=True)
class Kind:
    """The shipped files of one folder.

    Attributes:
        shelf: the files.
        plan: what a name resolves to, JSON-able.
        parts: the names that a name consists of, other than its bases.
    """

    shelf: Shelf
    plan: Callable[[Params, str], Plan]
    parts: Callable[[str], list[str]] = field(default=lambda name: [])


def _first(recipe: str) -> list[RecipeName]:
    """The pre-training of a recipe."""
    first = resolve(Params({}), recipe).pretraining
    return [] if first is None else [RecipeName.parse(first.resolved.name)]


def _additions(addition: str) -> list[str]:
    whole = f"{_base(addition)}+{addition}"
    return [one for recipe in (RecipeName.parse(whole), *_first(whole)) for one in recipe.additions]


def _sweep(params: Params, name: str) -> Plan:
    return params.filled(SWEEPS.read(params, name), Sweep, name).model_dump(mode="json")


ENCODERS = {"text": "minilm", "audio": "wavlm_large"}  # one that can be adapted
KINDS = [
    Kind(RECIPES, _recipe, lambda name: [one.base for one in _first(name)]),
    Kind(ADDITIONS, _addition, _additions),
    Kind(SWEEPS, _sweep),
    *(Kind(registry._shelf(modality), _encoder(modality)) for modality in MODALITIES),
    Kind(corpora.DATASETS, _corpus),
    *(
        Kind(Shelf(f"adaptations.{one}", f"merc.adaptation.{one}", "fine-tuning"), _adaptation(one, ENCODERS[one]))
        for one in ADAPTED
    ),
]
SHIPPED = [pytest.param(kind, name, id=f"{kind.shelf.key}.{name}") for kind in KINDS for name in kind.shelf.shipped()]
every_file = pytest.mark.parametrize(("kind", "name"), SHIPPED)


def path_of(kind: Kind, name: str) -> Path:
    return Path(str(resources.files(kind.shelf.package).joinpath(f"{name}.yaml")))


def own(kind: Kind, name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path_of(kind, name).read_text())
    return tree


PATHS = [ROOT / "params.yaml", *sorted((ROOT / "pipeline" / "merc").rglob("*.yaml"))]


def test_every_file_is_of_a_kind_but_label_sets_which_are_not_settings() -> None:
    assert {path for path in PATHS[1:] if path.parent.name != "label_sets"} == {path_of(*one.values) for one in SHIPPED}


def others(value: Any) -> Iterator[Any]:
    """Replacements for a value, at least one of which should be valid."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (other for other in (value * 2, value + 1, value - 1) if other != value)
    elif isinstance(value, float):
        yield from (other for other in (value / 2, value * 2, 0.25, 0.5) if other != value)
    elif isinstance(value, list):
        yield from ([*value[:-1], other] for other in others(value[-1]))
        yield value[:-1]
    elif isinstance(value, str):
        yield NOWHERE
    else:  # nothing, or an empty block
        yield {NOWHERE: 1}


def suggested(error: str) -> list[str]:
    """The values that an error message lists as possible."""
    valid = re.search(r"valid: ([\w, -]+)", error)
    return re.findall(r"'(\w+)'(?= or |,|$| \()", error.partition("Input should be ")[2]) + (
        valid[1].split(", ") if valid else []
    )


@pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(ROOT)) for path in PATHS])
def test_dvc_changes_one_line_for_one_key(path: Path, tmp_path: Path) -> None:
    before, copy = path.read_text(), tmp_path / "settings.yaml"
    copy.write_text(before)
    apply_overrides(copy, [])
    assert copy.read_text() == before
    for key, value in flat(yaml.safe_load(before)).items():
        copy.write_text(before)
        changed = 3 if value in (None, {}) else next(others(value))
        apply_overrides(copy, [f"{key}={json.dumps(changed)}"])
        lines = zip(before.splitlines(), copy.read_text().splitlines(), strict=True)
        assert len([1 for old, new in lines if old != new]) == 1, key
        assert flat(yaml.safe_load(copy.read_text()))[key] in (changed, str(changed)), (
            key
        )  # PyYAML reads 1e-05, as written by DVC, as a string


def test_a_number_is_one_however_dvc_writes_it(tmp_path: Path) -> None:
    copy = tmp_path / "params.yaml"
    copy.write_text("recipes:\n  mmgcn:\n    optimizer:\n      learning_rate: 0.1\n")
    apply_overrides(copy, ["recipes.mmgcn.optimizer.learning_rate=0.00001"])
    assert "learning_rate: 1e-05\n" in copy.read_text()
    assert resolve(Params.load(copy), "mmgcn").recipe.optimizer.learning_rate == 0.00001


def reached(before: Plan, load: Callable[[str], Plan], key: str, value: Any) -> None:
    """Asserts that another value for a key arrives in a plan, or is refused because of the value; a number or a flag
    must arrive.
    """
    left, errors, old = list(others(value)), [], flat(before)
    while left:
        changed = left.pop(0)
        try:
            after = load(f"{key}={json.dumps(changed)}")
        except BadSettings as error:
            errors.append(str(error))
            left += [
                one for one in suggested(str(error)) if isinstance(value, str) and changed == NOWHERE and one != value
            ][:3]
            continue
        moved = {name: given for name, given in flat(after).items() if given != old.get(name)}
        assert moved, f"{key}={changed} changes nothing"
        if not isinstance(value, str):  # which may be the name of something with its own settings
            assert {name.rpartition(".")[2] for name in moved} == {key.rpartition(".")[2]}
            assert all(given == changed for given in moved.values())
        return
    assert not isinstance(value, int | float), errors
    assert NOWHERE in errors[0], errors


@pytest.fixture
def nothing_else(tmp_path: Path) -> Path:
    """A params.yaml without a key."""
    (tmp_path / "params.yaml").write_text("{}\n")
    return tmp_path / "params.yaml"


@every_file
def test_set_reaches_every_key_of_what_ships(kind: Kind, name: str, nothing_else: Path) -> None:
    def load(override: str) -> Plan:
        params = Params.load(nothing_else, (override,))
        plan = kind.plan(params, name)
        params.check_overrides()
        return plan

    before = kind.plan(Params({}), name)
    for key, value in flat(own(kind, name)).items():
        reached(before, load, f"{kind.shelf.key}.{name}.{key}", value)


@every_file
def test_set_reaches_nothing_that_is_not_made_of_it(kind: Kind, name: str, nothing_else: Path) -> None:
    """Every key of all other files at once."""
    made_of = {below for one in (name, *kind.parts(name)) for below in kind.shelf.lineage(Params({}), one)}
    apart = [other for other in kind.shelf.shipped() if other not in made_of]
    overrides = [f"{kind.shelf.key}.{other}.{key}={NOWHERE}" for other in apart for key in flat(own(kind, other))]
    assert kind.plan(Params.load(nothing_else, tuple(overrides)), name) == kind.plan(Params({}), name)


@every_file
def test_no_key_repeats_what_is_there_without_it(kind: Kind, name: str) -> None:
    """Keys that repeat a base or a default; an addition may override anything."""
    if kind.shelf is ADDITIONS:
        return

    def plan(tree: Mapping[str, Any]) -> Plan:
        return kind.plan(Params(_nested(kind.shelf.key, {"mine": tree})), "mine")

    tree = own(kind, name)
    whole, redundant = plan(tree), []
    for key in flat(tree):
        try:
            if plan(_without(tree, key.split("."))) == whole:
                redundant.append(key)
        except BadSettings:  # it is needed
            pass
    assert redundant == []


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def _without(tree: Mapping[str, Any], key: list[str]) -> dict[str, Any]:
    return {
        name: _without(value, key[1:]) if name == key[0] and key[1:] else value
        for name, value in tree.items()
        if name != key[0] or key[1:]
    }


SETTINGS = flat(yaml.safe_load((ROOT / "params.yaml").read_text()))


def _files_of(key: str) -> list[str]:
    """The files of ``merc.commands.resolve`` that a key of params.yaml belongs to; none: only commands use it."""
    block, _, rest = key.partition(".")
    if block == "media":
        return [f"datasets/{dataset}/media" for dataset in yaml.safe_load((ROOT / "params.yaml").read_text())["build"]]
    of_block = {
        "build": f"datasets/{rest.replace('.', '/')}",
        "train": f"trainings/{rest.partition('.')[0]}",
        "presets": None,
        "default_encoders": None,
    }
    file = of_block.get(block, block)
    return [] if file is None else [file]


@pytest.fixture
def _sources_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merc.commands.resolve.sources", cache(sources))


@cache
def _before() -> Plan:
    return resolve_all(Params.load(ROOT / "params.yaml"))


@pytest.mark.parametrize("key", [key for key, value in SETTINGS.items() if value != {}])
@pytest.mark.usefixtures("_sources_stay_the_same")
def test_set_reaches_every_key_of_params_yaml_and_no_other_plan(key: str) -> None:
    found = _files_of(key)

    def load(override: str) -> Plan:
        params = Params.load(ROOT / "params.yaml", (override,))
        if not found:
            return _for_commands(params)
        after = resolve_all(params)
        assert after.keys() == before.keys()
        assert [name for name in before if before[name] != after[name]] in ([], found)
        return {**after, "dvc.yaml": params.block("train")}  # from which its stages take the dataset

    before = _before()
    unchanged = Params.load(ROOT / "params.yaml")
    reached(
        {**before, "dvc.yaml": unchanged.block("train")} if found else _for_commands(unchanged),
        load,
        key,
        SETTINGS[key],
    )


def _for_commands(params: Params) -> Plan:
    every = ",".join(MODALITIES)
    by_preset = {preset: chosen_encoders(params, "demo-meld", every, (), preset) for preset in params.block("presets")}
    by_dataset = {dataset: chosen_encoders(params, dataset, every, ()) for dataset in params.block("default_encoders")}
    media = {preset: of_preset(params, preset).model_dump(mode="json") for preset in params.block("presets")}
    return {"presets": by_preset, "default_encoders": by_dataset, "media": media}


def test_dvc_refuses_columns_of_an_audit_that_none_of_its_stages_makes() -> None:
    with pytest.raises(BadSettings, match=r"shards\.quality: no DVC stage makes an audit; merc-extract audit does"):
        resolve_all(Params.load(ROOT / "params.yaml", ("shards.quality=true",)))


def test_dvc_looks_at_the_settings_of_the_audit_too() -> None:
    with pytest.raises(BadSettings, match=r"unknown key audit\.asr_eror_max; did you mean 'asr_error_max'"):
        resolve_all(Params.load(ROOT / "params.yaml", ("audit.asr_eror_max=1",)))
