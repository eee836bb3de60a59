"""The report as a whole: its content, that it is self-contained, that no data is interpreted as markup, and that it is
reproducible.
"""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from merc.errors import BadSettings, BadTable, RawDataMissing, SettingsDiffer
from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import main, write_report

from .conftest import make_comparison, over_seeds

FILES = [
    "coverage.csv",
    "coverage.json",
    "index.html",
    "labels.csv",
    "pages",
    "results.md",
    "results.tex",
    "scores.json",
]
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
        """Number of scripts loaded from the report's own folder."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += tag == "script" and (dict(attrs).get("src") or "").lstrip("./").startswith("pages/")
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action", "srcset")
        ]

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def _write(tmp_path: Path, datasets: list[str] | None = None, config: Config = CONFIG) -> _Page:
    page = write_report(
        config, tmp_path / "features", tmp_path / "runs", tmp_path / "reports", datasets, tmp_path / "evaluations"
    )
    assert page == tmp_path / "reports" / "index.html"
    return _Page(
        "".join(path.read_text(encoding="utf-8") for path in [page, *sorted(page.parent.glob("pages/**/*.html"))])
    )


def _contents(tmp_path: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*") if path.is_file()}


def test_the_page_says_what_was_there_and_what_came_of_it(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards(source="Doe et al. 2020, licence: none", deviations=["train: 11 dialogues instead of 12"])
    write_run(scores=[(0.50, 0.40), (0.54, 0.46)])
    text = _write(tmp_path).text
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == FILES
    for words in (
        "Doe et al. 2020, licence: none",
        "train: 11 dialogues instead of 12",
        "the audio is digital silence",
        "Absent in more than a tenth of a split",
        "52.00 ± 2.83",
        "43.00 ± 4.24",
        "Best recipe on dev: baseline",
        "37.50 ± 17.68",  # recall of each class: 0.25 and 0.50
        "Dialogues with similar trajectories",
        "Apache-2.0",
        "Shards",
        "similarities: - path - edit",
        "46.50 (epoch 5)",
    ):
        assert words in text, words
    assert "trained on it yet" not in text


def test_rows_on_fine_tuned_encoders_stand_apart_on_the_page(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run(recipe="plain")
    write_run(recipe="tuned", scores=[(0.9, 0.9)], replace={"tag": "adapted"})
    text = _write(tmp_path).text
    assert (
        text.count("Label set meld7, encoders fine-tuned on the train labels; not to be ranked with frozen ones.") == 1
    )
    assert text.count("best on dev") == 2
    assert "Best recipe on dev: plain" in text


def test_without_runs_the_page_says_so(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    assert "Nothing has been trained on it yet: merc-train --dataset tiny --recipe NAME" in _write(tmp_path).text
    assert "Nothing has been trained on it yet." in (tmp_path / "reports" / "results.md").read_text()


def test_without_shards_a_report_that_is_there_stays_and_the_command_that_makes_some_is_named(
    write_shards: WriteShards, tmp_path: Path
) -> None:
    write_shards()
    _write(tmp_path)
    before = _contents(tmp_path)
    with pytest.raises(
        RawDataMissing,
        match=r"there are no shards in .*typo; either of these makes some:\n  merc-extract --dataset NAME",
    ) as caught:
        write_report(CONFIG, tmp_path / "typo", tmp_path / "runs", tmp_path / "reports")
    assert caught.value.exit_code == 4
    assert _contents(tmp_path) == before


def test_all_datasets_with_shards_are_shown_or_only_those_asked_for(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards("tiny")
    write_shards("made-up", counts_compared=False)
    assert set(json.loads((_write(tmp_path), (tmp_path / "reports" / "coverage.json").read_text())[1])) == {
        "tiny",
        "made-up",
    }
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


def test_texts_of_corpora_and_runs_are_never_taken_for_markup(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
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


def test_transcripts_are_on_the_page_of_all_dialogues_alone_and_nowhere_without_text(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run()
    _write(tmp_path)
    assert [path.name for path, content in _contents(tmp_path).items() if b"secret transcript" in content] == [
        "texts.js"
    ]
    _write(tmp_path, config=CONFIG.model_copy(update={"text": False}))
    assert all(b"secret transcript" not in content for content in _contents(tmp_path).values())


def test_the_same_inputs_give_the_same_bytes(write_shards: WriteShards, write_run: WriteRun, tmp_path: Path) -> None:
    write_shards()
    write_run()
    _write(tmp_path)
    first = _contents(tmp_path)
    _write(tmp_path)
    assert _contents(tmp_path) == first


def test_runs_on_shards_that_were_made_again_are_marked(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run(recipe="fresh")
    assert "remade" not in _write(tmp_path).text
    write_run(recipe="stale", shards="older")
    assert "their scores belong to other data than the rest of this page: stale." in _write(tmp_path).text


def test_a_run_without_predictions_or_record_is_shown(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    (write_run() / "record.json").unlink()  # nor does it have predictions.parquet
    text = _write(tmp_path).text
    assert "43.00 ± 4.24" in text
    assert "fingerprint not recorded" in text


def test_one_seed_has_scores_without_a_deviation_and_no_mark(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    for recipe, score in (("one", 0.41), ("two", 0.42)):
        write_run(recipe=recipe, scores=[(score, score)])
    make_comparison(
        tmp_path / "evaluations", [{"first": "one", "second": "two", "seeds": 1, "note": "fewer than two seeds"}]
    )
    text = _write(tmp_path).text
    assert "Fewer than two seeds in common: no significance is claimed." in text
    assert "†" not in text
    assert "no significance is claimed" in text
    assert "41.00 42.00" in text


def test_runs_of_different_label_sets_stand_in_tables_of_their_own(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run(recipe="others", scores=[(0.9, 0.9)], classes=("no", "yes"), replace={"label_set": "two"})
    write_run(recipe="own")
    text = _write(tmp_path).text
    assert text.count("majority class – 31.27") == 2
    assert "Best recipe on dev: own" in text
    assert "Label set two. Per cent" in text


def test_differences_that_both_tests_find_are_marked(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run(recipe="best")
    for recipe in ("far", "near"):
        write_run(recipe=recipe, scores=[(0.3, 0.3), (0.3, 0.3)])
    pairs = [
        {
            "first": "best",
            "second": name,
            "difference": 0.13,
            "p_holm": 0.01,
            "low": 0.1,
            "high": 0.2,
            "seeds_needed": 4,
        }
        for name in ("far", "near")
    ]
    make_comparison(tmp_path / "evaluations", [pairs[0] | {"significant": True}, pairs[1] | {"significant": False}])
    text = _write(tmp_path).text
    assert text.count("30.00 † ± 0.00") == 1
    assert "+13.00 +10.00 to +20.00 0.010 significant 2 4" in text
    assert "† test WF1 differs significantly from that of best" in (tmp_path / "reports" / "results.md").read_text()


def test_evaluations_are_shown_with_links_to_run_and_comparison(
    write_shards: WriteShards, write_run: WriteRun, write_evaluation: Callable[..., Path], tmp_path: Path
) -> None:
    write_shards()
    write_run()
    assert "Nothing has been evaluated yet: merc-evaluate --dataset tiny" in _write(tmp_path).text
    scores = {kind: {"weighted_f1": value} for kind, value in {"raw": 0.6, "eccs": 0.5, "eics": 0.25}.items()}
    write_evaluation("context_substitution", {"replaced": "earlier utterances", **over_seeds(scores, scores)})
    page = _write(tmp_path)
    assert "Same emotions (ECCS) Other emotions (EICS) baseline 60.00 ± 0.00 50.00 ± 0.00 25.00 ± 0.00" in page.text
    assert page.targets.count("#run-baseline") == 3
    none = "No run has such a score: the test split is too small for it."
    assert none not in page.text
    write_evaluation(
        "trajectory_alignment",
        {"k": 10, **over_seeds({"path": {"raw": {"fusion": {"before": {"ta": None}, "after": {"ta": None}}}}})},
    )
    assert none in _write(tmp_path).text
    write_evaluation("context_substitution", {}, run="of an older training")
    assert (
        "Made from runs that have since been retrained, and not shown: baseline/context_substitution."
        in _write(tmp_path).text
    )


def test_published_scores_of_the_corpus_and_a_users_own_stand_apart(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards("meld")
    write_run(dataset="meld")
    own = tmp_path / "own.csv"
    own.write_text(
        "corpus,label_set,system,weighted_f1,features,year,source\nmeld,meld7,<b>Mine,99.5,mine,2026,me\nmeld,two,Other,1,mine,2026,me\n"
    )
    page = _write(tmp_path, config=CONFIG.model_copy(update={"published": str(own)}))
    assert "b" not in page.tags
    assert (
        page.text.index("baseline")
        < page.text.index("Features: glove")
        < page.text.index("MMGCN+ DCLF")
        < page.text.index("99.50")
    )
    assert "Other" not in page.text.split("Published scores")[2].split("Data")[0]
    assert "99.50" in (tmp_path / "reports" / "results.tex").read_text()


def test_failures_and_cells_of_a_confusion_lead_to_their_utterances(
    write_shards: WriteShards, write_run: WriteRun, tmp_path: Path
) -> None:
    write_shards()
    write_run(recipe="a+b")
    targets = _write(tmp_path).targets
    assert "dialogues.html#failure=silence" in targets
    assert "dialogues.html#recipe=a%2Bb&split=test&emotion=joy&predicted=anger" in targets


def test_what_validation_finds_is_on_the_page(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    text = _write(tmp_path).text
    assert "meta/manifest.json" in text
    assert "problems in 22 dialogues" in text
    assert (
        "The shards were not validated"
        in _write(tmp_path, config=CONFIG.model_copy(update={"validate_shards": False})).text
    )


@pytest.mark.parametrize("name", ["index.html", "pages", "results.md"])
def test_a_folder_that_holds_something_else_is_refused_and_nothing_is_lost(
    name: str, write_shards: WriteShards, tmp_path: Path
) -> None:
    write_shards()
    path = tmp_path / "reports" / name
    if name == "pages":
        path /= "home.html"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(SettingsDiffer, match=rf"{name}: not made by merc-report") as caught:
        _write(tmp_path)
    assert caught.value.exit_code == 5
    assert list(_contents(tmp_path).values()) == [b"mine"]


@pytest.mark.parametrize("gone", ["results.json", "shards", "other"])
def test_what_is_gone_or_made_again_while_the_report_is_made_leaves_the_old_one_whole(
    gone: str, write_shards: WriteShards, write_run: WriteRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layout = write_shards()
    folder = write_run()
    _write(tmp_path)
    before = _contents(tmp_path)

    def meanwhile(*_: object) -> None:
        if gone == "results.json":
            shutil.rmtree(folder)
        elif gone == "other":
            write_run(scores=[(0.1, 0.1)])
        else:
            info = json.loads((layout.shards / "meta/info.json").read_text())
            (layout.shards / "meta/info.json").write_text(json.dumps(info | {"fingerprint": "another"}))

    monkeypatch.setattr("merc.reports.pages.overview.write", meanwhile)
    with pytest.raises(BadTable, match="while the report was made; run merc-report again"):
        _write(tmp_path)
    assert _contents(tmp_path) == before


def test_runs_as_a_command(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards()
    settings = tmp_path / "params.yaml"
    settings.write_text("report: {example_dialogues: 1}\n")
    named = {
        "out": "features",
        "runs": "runs",
        "evaluations": "evaluations",
        "reports": "reports",
        "params": "params.yaml",
    }
    folders = [f"--{name}={tmp_path / folder}" for name, folder in named.items()]
    assert CliRunner().invoke(main, folders).exit_code == 0
    assert (tmp_path / "reports" / "index.html").is_file()
    assert CliRunner().invoke(main, [*folders, "--dataset", "nowhere"]).exit_code == 2
    settings.write_text("report: {neighbours_drawn: 0}\n")
    assert CliRunner().invoke(main, folders).exit_code == 2
