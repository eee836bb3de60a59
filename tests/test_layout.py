from pathlib import Path

from merc.layout import Layout


def test_everything_of_a_dataset_is_in_its_own_folder() -> None:
    layout = Layout(Path("raw"), Path("features"), "meld")
    assert layout.folder == Path("features/meld")
    assert layout.manifest == Path("features/meld/manifest.parquet")
    assert layout.media == Path("features/meld/media")
    assert layout.features("audio", "acoustic") == Path("features/meld/audio/acoustic")
    assert layout.shards == Path("features/meld/shards")


def test_unfinished_work_is_outside_every_output() -> None:
    layout = Layout(Path("raw"), Path("features"), "meld")
    for output in (layout.media, layout.shards, layout.features("text", "ngrams")):
        assert not layout.scratch.is_relative_to(output)


def test_raw_may_hold_the_corpus_or_be_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    layout = Layout(raw, tmp_path / "features", "meld")
    assert layout.corpus_root == raw / "meld"  # nothing exists: messages name the default place
    raw.mkdir()
    assert layout.corpus_root == raw
    (raw / "meld").mkdir()
    assert layout.corpus_root == raw / "meld"
