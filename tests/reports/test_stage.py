"""The report as a whole: what it says, that it needs nothing else, that nothing in it is taken for markup, the same bytes twice."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from merc.errors import BadSettings, RawDataMissing
from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import main, write_report

FILES = ["coverage.csv", "coverage.json", "index.html", "labels.csv", "pages", "results.md", "scores.json"]
EVIL = '<script>alert("x")</script>'
WriteShards = Callable[..., Layout]
WriteRun = Callable[..., Path]
CONFIG = Config(example_dialogues=2, neighbours_drawn=2)


class _Page(HTMLParser):
    """Tags, what they point to, and the words between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.words: list[str] = []
        self.scripts = 0
        """Those that are loaded from the report's own folder."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += tag == "script" and (dict(attrs).get("src") or "").lstrip("./").startswith("pages/")
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action", "srcset")]

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def _write(tmp_path: Path, datasets: list[str] | None = None, config: Config = CONFIG) -> _Page:
    page = write_report(config, tmp_path / "features", tmp_path / "runs", tmp_path / "reports", datasets)
    assert page == tmp_path / "reports" / "index.html"
    return _Page("".join(path.read_text(encoding="utf-8") for path in [page, *sorted(page.parent.glob("pages/**/*.html"))]))


def _contents(tmp_path: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()}


def test_the_page_says_what_was_there_and_what_came_of_it(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards(source="Doe et al. 2020, licence: none", deviations=["train: 11 dialogues instead of 12"])
    write_run(scores=[(0.50, 0.40), (0.54, 0.46)])
    text = _write(tmp_path).text
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == FILES
    for words in (
        "Doe et al. 2020, licence: none",
        "train: 11 dialogues instead of 12",
        "the sound is digital silence",
        "Absent in more than a tenth of a split",
        "52.00 ± 2.83",
        "43.00 ± 4.24",
        "Best recipe on dev: baseline",
        "37.50 ± 17.68",  # recall of each class: 0.25 and 0.50
        "Trajectories that move alike",
        "Apache-2.0",
        "similarities: - path - edit",
        "46.50 (epoch 5)",
    ):
        assert words in text, words
    assert "trained on it yet" not in text


def test_rows_on_fine_tuned_encoders_stand_apart_on_the_page(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run(recipe="plain")
    write_run(recipe="tuned", scores=[(0.9, 0.9)], replace={"tag": "adapted"})
    text = _write(tmp_path).text
    assert text.count("Label set meld7, encoders fine-tuned on the train labels; not to be ranked with frozen ones.") == 1
    assert "Best recipe on dev: plain" in text


def test_without_runs_the_page_says_so(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    assert "Nothing has been trained on it yet: merc-train --dataset tiny --recipe NAME" in _write(tmp_path).text
    assert "Nothing has been trained on it yet." in (tmp_path / "reports" / "results.md").read_text()


def test_without_shards_a_report_that_is_there_stays_and_the_command_that_makes_some_is_named(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    _write(tmp_path)
    before = _contents(tmp_path)
    with pytest.raises(RawDataMissing, match=r"there are no shards in .*typo; these make some:\n  merc-extract --dataset NAME") as caught:
        write_report(CONFIG, tmp_path / "typo", tmp_path / "runs", tmp_path / "reports")
    assert caught.value.exit_code == 4
    assert _contents(tmp_path) == before


def test_all_datasets_with_shards_are_shown_or_only_those_asked_for(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards("tiny")
    write_shards("made-up", counts_compared=False)
    assert set(json.loads((_write(tmp_path), (tmp_path / "reports" / "coverage.json").read_text())[1])) == {"tiny", "made-up"}
    page = _write(tmp_path, ["made-up"])
    assert set(json.loads((tmp_path / "reports" / "coverage.json").read_text())) == {"made-up"}
    assert "not compared with those of an official distribution" in page.text
    write_shards("made-up", counts_compared=False, deviations=["the emotion 'sad' is in test, but not in train"])
    assert "the emotion 'sad' is in test, but not in train" in _write(tmp_path, ["made-up"]).text


def test_a_dataset_without_shards_is_named(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    with pytest.raises(BadSettings, match=r"no shards of 'tiyn' in .*did you mean 'tiny'"):
        _write(tmp_path, ["tiyn"])


def test_the_pages_need_nothing_from_elsewhere(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run()
    _write(tmp_path)
    for path in (tmp_path / "reports").rglob("*.html"):
        page = _Page(path.read_text(encoding="utf-8"))
        assert all((path.parent / target.partition("#")[0]).exists() for target in page.targets), path
        assert not {"iframe", "object", "form"} & set(page.tags)
    for content in _contents(tmp_path).values():
        assert content.count(b"url(") == content.count(b"url(#")
        assert b"@import" not in content


def test_texts_of_corpora_and_runs_are_never_taken_for_markup(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    classes = [EVIL, "$\\alpha$", "{{ 7 * 7 }}"]
    dialogues = {"train": [(f"train/{EVIL}{number}", [number % 3, 1, 2]) for number in range(4)]}
    write_shards(dialogues=dialogues, classes=classes, source=EVIL, deviations=[EVIL])
    write_run(classes=classes, recipe="<b>bold", replace={"model": EVIL, "selection": EVIL})
    page = _write(tmp_path)
    assert page.tags.count("script") == page.scripts
    assert "b" not in page.tags
    assert EVIL in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "$\\alpha$" in page.text


def test_no_transcript_is_in_the_report(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run()
    _write(tmp_path)
    assert all(b"secret transcript" not in content for content in _contents(tmp_path).values())


def test_the_same_inputs_give_the_same_bytes(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run()
    _write(tmp_path)
    first = _contents(tmp_path)
    _write(tmp_path)
    assert _contents(tmp_path) == first


def test_runs_on_shards_that_were_made_again_are_marked(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run(recipe="fresh")
    assert "made again" not in _write(tmp_path).text
    write_run(recipe="stale", shards="older")
    assert "their scores belong to other data than the rest of this page: stale." in _write(tmp_path).text


def test_runs_as_a_command(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    settings = tmp_path / "params.yaml"
    settings.write_text("report: {example_dialogues: 1}\n")
    folders = [f"--{name}={tmp_path / folder}" for name, folder in {"out": "features", "runs": "runs", "reports": "reports", "params": "params.yaml"}.items()]
    assert CliRunner().invoke(main, folders).exit_code == 0
    assert (tmp_path / "reports" / "index.html").is_file()
    assert CliRunner().invoke(main, [*folders, "--dataset", "nowhere"]).exit_code == 2
    settings.write_text("report: {neighbours_drawn: 0}\n")
    assert CliRunner().invoke(main, folders).exit_code == 2
