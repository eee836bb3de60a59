"""The data passed to the page's script."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from merc import parquet
from merc.layout import Layout
from merc.records import failures
from merc.records.failures import Failure
from merc.reports.explorer import data
from merc.reports.explorer.corpus import read_corpus, read_failed, read_neighbours
from merc.reports.explorer.media import Media
from merc.reports.explorer.predictions import read_predictions
from merc.reports.results import read_recipes

NO_MEDIA = Media(np.full(15, -1), np.zeros(15, dtype=bool), {2: ["margin 0.02"]})


def test_many_classes_have_a_sign_each_that_json_keeps() -> None:
    signs = data.signs(np.arange(-2, 200))
    assert len(set(signs)) == 202
    assert json.loads(json.dumps(signs, ensure_ascii=False)) == signs
    assert [ord(one) - 49 for one in signs] == list(range(-2, 200))


def test_the_index_has_what_filters_ask(
    layout: Layout, write_run: Callable[..., Path], write_predictions: Callable[..., Path], tmp_path: Path
) -> None:
    write_predictions(write_run() / "predictions.parquet", layout, splits=["test"], said={"test/dia0_utt0": (6, 0.99)})
    corpus = read_corpus(layout.shards, texts=False)
    predicted, _ = read_predictions(tmp_path / "runs", None, read_recipes(tmp_path / "runs", "tiny"), corpus)
    index = data.index(corpus, predicted, read_failed(layout.shards, corpus), NO_MEDIA)
    assert index["splits"] == ["test", "dev", "train"]
    assert index["ids"][:2] == ["test/dia0", "test/dia1"]
    assert index["lengths"] == [3, 2, 2, 4, 3, 1]
    assert index["labels"] == "517551015571577"
    assert index["doubtful"] == "001000000000000"
    assert index["recipes"] == [
        {"name": "baseline", "seeds": 2, "first": 0, "classes": "71755", "percent": "9970707070"}
    ]
    assert index["failures"] == {"silence": [3, 10], "truncated": [0, 5, 7]}
    assert "texts" not in index


def test_a_recipe_that_says_nothing_of_these_utterances_is_empty(
    layout: Layout, write_run: Callable[..., Path], write_predictions: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = read_corpus(layout.shards, texts=False)
    write_predictions(write_run() / "predictions.parquet", layout, without=corpus.utterance_ids.to_pylist())
    predicted, _ = read_predictions(tmp_path / "runs", None, read_recipes(tmp_path / "runs", "tiny"), corpus)
    index = data.index(corpus, predicted, read_failed(layout.shards, corpus), NO_MEDIA)
    assert index["recipes"] == [{"name": "baseline", "seeds": 2, "first": 0, "classes": "", "percent": ""}]


def test_a_part_counts_from_its_first_utterance(layout: Layout) -> None:
    corpus = read_corpus(layout.shards, texts=False)
    part = data.part(
        corpus,
        [],
        read_failed(layout.shards, corpus),
        NO_MEDIA,
        read_neighbours(layout.shards, corpus, 1),
        slice(1, 4),
        details=True,
    )
    assert part["first"] == 3
    assert part["utterances"] == [
        f"{name}_utt{at}"
        for name, size in {"test/dia1": 2, "dev/dia0": 2, "train/dia0": 4}.items()
        for at in range(size)
    ]
    assert part["present"] == {"text": "11111111", "audio": "01111110"}
    assert part["failures"] == [
        [0, "audio", "silence", ""],
        [2, "all", "truncated", "kept 60 of 305 s"],
        [4, "all", "truncated", "kept 60 of 305 s"],
        [7, "audio", "silence", ""],
    ]
    assert part["neighbours"]["edit"] == [[], [], [(4, 0.75)]]
    assert part["doubts"] == {}


@pytest.mark.parametrize(("stage", "modality"), [("manifest", "text"), ("manifest", "all"), ("extraction", "text")])
def test_words_that_may_repeat_a_transcript_are_left_out_where_there_shall_be_no_text(
    layout: Layout, stage: str, modality: str
) -> None:
    rows = [
        Failure("test/dia0_utt0", stage, modality, "text_repaired", "the word secret"),
        Failure("test/dia0_utt0", "media", "audio", "truncated", "60 s"),
    ]
    parquet.write(layout.shards / "failures" / "test-00000-of-00001.parquet", failures.table(one.row() for one in rows))
    corpus = read_corpus(layout.shards, texts=False)
    failed = read_failed(layout.shards, corpus)
    told = [row[3] for row in data.part(corpus, [], failed, NO_MEDIA, {}, slice(0, 1), details=False)["failures"]]
    assert told == ["", "60 s"]
    assert data.part(corpus, [], failed, NO_MEDIA, {}, slice(0, 1), details=True)["failures"][0][3] == "the word secret"


def test_what_acts_on_a_page_is_written_out(layout: Layout, retell: Callable[..., None]) -> None:
    retell(layout, {"test/dia0_utt0": ("An\u202en", "back\u2066wards \x07")})
    corpus = read_corpus(layout.shards, texts=True)
    assert data.texts(corpus)[0] == "back\\u2066wards \\x07"
    assert data.index(corpus, [], read_failed(layout.shards, corpus), NO_MEDIA)["speakers"][0] == "An\\u202en"
