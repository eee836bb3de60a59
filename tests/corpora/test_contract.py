"""What every corpus reader and every dataset promises; a new file in ``pipeline/merc/corpora`` is tested here
automatically.
"""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from merc import plugins
from merc.corpora.engine import labels
from merc.corpora.engine.base import CorpusReader
from merc.corpora.stage import DATASETS, choose
from merc.errors import RawDataMissing
from merc.params import Params
from merc.records.dialogue import SPLITS

PACKAGE = "merc.corpora"
READERS = plugins.names(PACKAGE, CorpusReader)
every_reader = pytest.mark.parametrize("name", READERS)
every_dataset = pytest.mark.parametrize("name", DATASETS.names(Params({})))
# Label sets defined by a reader, in addition to those of merc.corpora.label_sets.
OWN_LABEL_SETS = {"table": {"own"}}


def build(name: str) -> CorpusReader:
    kind = plugins.load(PACKAGE, name, CorpusReader)
    return kind(kind.Config(reader=name))


def test_there_are_some() -> None:
    assert {"meld", "iemocap", "table"} <= set(READERS)


@every_reader
def test_it_is_built_from_its_name_alone_and_is_a_dataset_by_it(name: str) -> None:
    reader = build(name)
    assert reader.config.model_validate(reader.config.model_dump()) == reader.config
    chosen = choose(Params({}), name)
    assert (type(chosen.reader), chosen.reader.config, chosen.make) == (type(reader), reader.config, None)


@every_reader
def test_its_label_sets_exist_and_that_of_its_settings_is_one(name: str) -> None:
    reader = build(name)
    assert reader.config.label_set in reader.LABEL_SETS
    assert len(set(reader.LABEL_SETS)) == len(reader.LABEL_SETS)
    assert set(reader.LABEL_SETS) - OWN_LABEL_SETS.get(name, set()) <= labels.LABEL_SETS.keys()


@every_reader
def test_it_says_where_the_corpus_comes_from_and_what_it_looks_like(name: str) -> None:
    reader = build(name)
    assert reader.__doc__
    assert len(reader.SOURCE.split()) > 10
    assert reader.SOURCE.strip() == reader.SOURCE
    assert reader.EXPECTED_TREE.splitlines()
    assert re.match(r"\S", reader.EXPECTED_TREE)


@every_reader
@pytest.mark.parametrize("there", ["nothing", "an empty folder", "another file"])
@pytest.mark.parametrize("media", [set(), {"audio", "visual"}], ids=["annotations", "media"])
@pytest.mark.parametrize("splits", [SPLITS, ("test",)], ids=["all splits", "test"])
def test_what_is_missing_is_answered_with_the_tree_what_there_is_and_where_to_get_it(
    name: str, there: str, media: set[str], splits: tuple[str, ...], tmp_path: Path
) -> None:
    root = tmp_path / "raw" / name
    if there != "nothing":
        root.mkdir(parents=True)
    if there == "another file":
        (root / "notes.txt").write_text("nothing of a corpus\n")
    reader = build(name)
    with pytest.raises(RawDataMissing) as raised:
        reader.read(root, tmp_path / "raw", media=frozenset(media), splits=splits)
    said = [line.strip() for line in str(raised.value).splitlines()]
    assert str(root) in str(raised.value)
    assert [line for line in reader.EXPECTED_TREE.splitlines() if line.strip() not in said] == []
    assert any(line.startswith("Found") for line in said)
    assert said[-1] == reader.SOURCE


@every_dataset
def test_every_dataset_has_a_reader_whose_label_set_fits(name: str) -> None:
    chosen = choose(Params({}), name)
    assert chosen.name == name
    assert chosen.reader.config.reader in READERS
    assert chosen.reader.config.label_set in chosen.reader.LABEL_SETS
    assert (chosen.make is not None) == bool(chosen.reader.config.made_by)


@every_dataset
def test_no_dataset_that_is_made_by_code_is_compared_with_published_counts(name: str) -> None:
    config = choose(Params({}), name).reader.config
    assert not (config.made_by and config.check_counts)


@pytest.mark.parametrize("name", labels.LABEL_SETS)
def test_every_label_set_has_each_class_once_and_merges_into_its_own(name: str) -> None:
    found = labels.label_set(name)
    assert {field.name for field in fields(found)} == {"name", "classes", "merge"}
    assert found.name == name
    assert len(set(found.classes)) == len(found.classes) > 1
    assert set(found.merge.values()) <= set(found.classes)
    assert not set(found.merge) & set(found.classes)
