"""The page of all dialogues, in a browser: the results of filters, what is opened, where addresses lead, and the effect
of malicious texts.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from merc import files, parquet
from merc.commands.report import main
from merc.errors import BadTable
from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.pages import compare
from merc.reports.stage import write_report
from merc.shown import visible

from .chromium import until

DIALOGUES = {
    "train": [("train/dia0", [0, 4, 4, 6]), ("train/dia1", [0, 4, 6]), ("train/dia2", [6])],
    "dev": [("dev/dia0", [0, -1])],
    "test": [("test/dia0", [4, 0, 6]), ("test/dia1", [4, 4])],
}
"""Class 0 is neutral, 4 joy, 6 anger."""
ALL = [name for split in ("test", "dev", "train") for name, _ in DIALOGUES[split]]
EVIL = "</script><img src=x onerror=alert(1)><b>\"'&\\ \u202eevil\u2066 \x00\x1b[2J \u05e9\u05dc\u05d5\u05dd"
EVIL_SHOWN = "</script><img src=x onerror=alert(1)><b>\"'&\\ \\u202eevil\\u2066 \\x00\\x1b[2J \u05e9\u05dc\u05d5\u05dd"


@pytest.fixture(scope="module")
def make(making: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the report of a small corpus with two recipes, of which "sure" predicts anger for test/dia0_utt0 with 95 %
    and "unsure" test/dia1_utt1 with 60 %.

    Reports are shared: a test that changes one asks for its own (``fresh``).
    """
    found: dict[Any, Path] = {}

    def made(*, fresh: bool = False, **config: bool) -> Path:
        key = tuple(sorted(config.items()))
        if fresh or key not in found:
            folder = tmp_path_factory.mktemp("report")
            layout = making.shards(Layout(folder / "raw", folder / "features", "tiny"), dialogues=DIALOGUES)
            making.retell(
                layout,
                {"test/dia0_utt1": ("Ann", "Straße, a HERON!"), "train/dia0_utt3": ("Bob  & Co ", "one heron more")},
            )
            for recipe, said in {
                "mmgcn+sure": {"test/dia0_utt0": (6, 0.95)},
                "unsure": {"test/dia1_utt1": (6, 0.6)},
            }.items():
                making.predictions(
                    making.run(folder / "runs", recipe=recipe) / "predictions.parquet", layout, said=said
                )
            said = {"test/dia0_utt0": (1, 0.91)}
            home = folder / "evaluations" / "runs" / "tiny" / "unsure" / "any_modality_oracle"
            parts = [
                making.predictions(folder / name, layout, said=said, splits=["test"], more={"modality": name})
                for name in ("text", "audio")
            ]
            parquet.write(home / "unimodal.parquet", parquet.read(parts))
            files.write_json(home / "record.json", {"fingerprint": "2", "settings": {}, "inputs": {"run": "1"}})
            making.media(layout, without=["test/dia0_utt1"], doubtful=["test/dia0_utt2", "train/dia1_utt0"])
            if fresh:
                return _written(folder, **config)
            found[key] = _written(folder, **config)
        return found[key]

    return made


def _written(tmp_path: Path, **config: bool) -> Path:
    write_report(
        Config(**config), tmp_path / "features", tmp_path / "runs", tmp_path / "reports", None, tmp_path / "evaluations"
    )
    return tmp_path / "reports" / "pages" / "tiny" / "dialogues.html"


def _listed(page: Any) -> list[str]:
    until(
        page,
        "document.querySelector('.nothing') ?? [...document.querySelectorAll('.dialogue')].every((one) =>"
        " one.querySelector('.cells'))",
    )
    return [one.inner_text() for one in page.locator(".dialogue h3").all()]


def _fragment(**state: str) -> str:
    return "&".join(f"{key}={quote(visible(value), safe='')}" for key, value in state.items())


def test_every_dialogue_has_a_strip_of_the_truth_and_one_for_each_recipe_that_speaks_of_it(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make())
    assert _listed(page) == ALL
    assert page.locator("#count").inner_text() == "6 dialogues, 15 utterances"
    first = page.locator(".dialogue").first
    assert first.locator(".cells").count() == 3
    assert first.locator(".cells").nth(0).get_attribute("aria-label") == "true emotions: joy, neutral, anger"
    assert (
        first.locator(".cells").nth(1).get_attribute("aria-label")
        == "predicted by mmgcn+sure: anger (wrong), neutral, anger"
    )
    assert first.locator(".cells .cell").all_inner_texts() == ["J", "N", "A", "A", "N", "A", "J", "N", "A"]
    assert first.locator(".cell.wrong").count() == 1
    assert first.locator(".value").all_inner_texts() == ["", "1 wrong", "0 wrong"]
    assert page.locator(".dialogue").last.locator(".cells").count() == 1
    assert (
        page.locator(".dialogue").nth(2).locator(".cells").first.get_attribute("aria-label")
        == "true emotions: neutral, outside the label set"
    )


FILTERS: list[tuple[dict[str, str], list[str], str]] = [
    ({"split": "train"}, ALL[3:], "3 dialogues, 8 utterances"),
    ({"emotion": "anger"}, ["test/dia0", "train/dia0", "train/dia1", "train/dia2"], "4 utterances in 4 of 6 dialogues"),
    ({"emotion": "(unlabelled)"}, ["dev/dia0"], "1 utterance in 1 of 6 dialogues"),
    ({"predicted": "anger"}, ["test/dia0", "test/dia1"], "3 utterances in 2 of 6 dialogues"),
    (
        {"recipe": "mmgcn+sure", "emotion": "joy", "predicted": "anger", "split": "test"},
        ["test/dia0"],
        "1 utterance in 1 of 6 dialogues",
    ),
    (
        {"recipe": "mmgcn+sure", "emotion": "joy", "predicted": "anger", "split": "dev"},
        [],
        "0 utterances in 0 of 6 dialogues",
    ),
    ({"speaker": "Bob  & Co "}, ["train/dia0"], "1 utterance in 1 of 6 dialogues"),
    ({"wrong": "1"}, ["test/dia0", "test/dia1"], "2 utterances in 2 of 6 dialogues"),
    ({"wrong": "1", "recipe": "unsure"}, ["test/dia1"], "1 utterance in 1 of 6 dialogues"),
    ({"confident": "1"}, ["test/dia0"], "1 utterance in 1 of 6 dialogues"),
    ({"disagree": "1"}, ["test/dia0", "test/dia1"], "2 utterances in 2 of 6 dialogues"),
    ({"doubtful": "1"}, ["test/dia0", "train/dia1"], "2 utterances in 2 of 6 dialogues"),
    ({"failure": "silence"}, ["test/dia1", "train/dia0"], "2 utterances in 2 of 6 dialogues"),
    ({"q": "heron"}, ["test/dia0", "train/dia0"], "2 utterances in 2 of 6 dialogues"),
    ({"q": "STRASSE"}, [], "0 utterances in 0 of 6 dialogues"),
    ({"q": "STRAßE"}, ["test/dia0"], "1 utterance in 1 of 6 dialogues"),
    ({"q": "dev/d"}, ["dev/dia0"], "2 utterances in 1 of 6 dialogues"),
    ({"q": "heron", "emotion": "anger"}, ["train/dia0"], "1 utterance in 1 of 6 dialogues"),
]


def test_a_filter_in_the_address_leaves_the_right_dialogues(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    path = make()
    page = open_page(path)
    for state, left, count in FILTERS:
        page.goto(f"{path.as_uri()}#{_fragment(**state)}")
        heads = "JSON.stringify([...document.querySelectorAll('.dialogue h3')].map((one) => one.innerText))"
        until(
            page,
            f"{heads} === {json.dumps(json.dumps(left, separators=(',', ':')))} &&"
            f" document.getElementById('count').textContent === {json.dumps(count)}",
        )
        for key, value in state.items():
            field = page.locator(f"#{key}")
            assert field.is_checked() if value == "1" else field.input_value() == value, state
        if not left:
            assert page.locator("#list").inner_text() == "No utterance matches; clear the filter, or a part of it."


def test_fields_make_the_address_and_buttons_of_the_browser_go_back_and_forth(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make())
    page.locator("#emotion").select_option("anger")
    page.locator("#wrong").check()
    assert page.url.endswith("#emotion=anger&wrong=1")
    assert _listed(page) == []
    page.go_back()
    until(page, "!document.getElementById('wrong').checked")
    assert _listed(page) == ["test/dia0", "train/dia0", "train/dia1", "train/dia2"]
    page.get_by_role("button", name="train/dia1").click()
    assert page.url.endswith("#emotion=anger&dialogue=train%2Fdia1")
    page.locator(".turn").first.wait_for()
    assert page.locator(".turn.found").count() == 1
    page.go_back()
    page.locator(".turn").first.wait_for(state="detached")
    page.go_forward()
    page.locator(".turn").first.wait_for()
    page.locator("#clear").click()
    assert _listed(page) == ALL
    assert page.locator("#emotion").input_value() == ""


def test_what_is_typed_is_searched_and_makes_no_step_of_its_own(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make())
    steps = page.evaluate("history.length")
    page.get_by_label("Search in texts and ids").press_sequentially("Heron m")
    until(page, "document.getElementById('count').textContent === '1 utterance in 1 of 6 dialogues'")
    assert page.url.endswith("#q=Heron%20m")
    assert page.evaluate("history.length") == steps
    until(page, "document.querySelectorAll('.cell.found').length === 1")


def test_an_address_opens_its_dialogue_with_all_that_is_known_of_it(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make(), fragment=_fragment(dialogue="test/dia0"))
    page.locator(".turn").nth(2).wait_for()
    turns = page.locator(".turn")
    assert turns.count() == 3
    assert turns.nth(1).locator(".who > *").all_inner_texts() == ["neutral", "Ann", "test/dia0_utt1"]
    assert turns.nth(1).locator(".words").inner_text() == "Straße, a HERON!"
    assert [" ".join(one.split()) for one in turns.nth(0).locator(".guesses li").all_inner_texts()] == [
        "anger 95 % mmgcn+sure",
        "joy 70 % unsure text: surprise 91 % audio: surprise 91 %",
    ]
    assert turns.nth(0).locator(".guesses .wrong").count() == 1
    assert "all: truncated – longer than the maximum; the rest was cut (kept 60 of 305 s)" in turns.nth(0).inner_text()
    assert "has text, audio" in turns.nth(0).inner_text()
    assert "doubtful face: in 20 % of the frames" in turns.nth(2).inner_text()
    turns.nth(0).get_by_role("link", name="truncated").click()
    until(page, "document.getElementById('failure').value === 'truncated'")
    assert _listed(page) == ["test/dia0", "dev/dia0", "train/dia0"]


def test_neighbours_are_linked(make: Callable[..., Path], open_page: Callable[..., Any]) -> None:
    page = open_page(make(), fragment=_fragment(dialogue="train/dia0", split="train"))
    page.locator(".alike a").first.wait_for()
    page.locator(".alike a", has_text="train/dia2").first.click()
    until(page, "document.querySelector('.opened').closest('.dialogue').querySelector('h3').innerText === 'train/dia2'")
    assert page.url.endswith("#dialogue=train%2Fdia2")


def test_a_dialogue_that_does_not_fit_the_filter_is_shown_all_the_same(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make(), fragment=_fragment(split="dev", dialogue="train/dia2"))
    page.locator(".turn").wait_for()
    assert _listed(page) == ["train/dia2", "dev/dia0"]


def test_names_that_are_not_here_are_reported_and_the_rest_of_the_filter_holds(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make(), fragment="emotion=joyy&split=dev&strange=1&&=&recipe=%E0%A4&dialogue=gone")
    assert _listed(page) == ["dev/dia0"]
    note = page.locator("#note").inner_text()
    assert note.startswith(
        "There is no emotion “joyy” here; the rest of the filter applies. There is no recipe “%E0%A4” here"
    )
    assert "There is no dialogue “gone” here" in note


def test_all_goes_by_keyboard(make: Callable[..., Path], open_page: Callable[..., Any]) -> None:
    page = open_page(make())
    page.locator("#clear").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "test/dia0"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator(".turn").first.wait_for()
    assert (
        page.evaluate("[document.activeElement.innerText, document.activeElement.getAttribute('aria-expanded')].join()")
        == "test/dia0,true"
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "truncated"
    page.keyboard.press("Escape")
    page.locator(".turn").first.wait_for(state="detached")
    assert page.evaluate("document.activeElement.innerText") == "test/dia0"
    unlabelled = "[...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unlabelled) == 0


def test_a_click_on_a_cell_shows_its_utterance(make: Callable[..., Path], open_page: Callable[..., Any]) -> None:
    page = open_page(make())
    page.get_by_label("true emotions: neutral, joy, joy, anger").locator(".cell").nth(3).click()
    page.locator(".turn").nth(3).wait_for()
    assert "one heron more" in page.locator(".turn").nth(3).inner_text()
    until(
        page,
        "(() => { const at = document.querySelectorAll('.turn')[3].getBoundingClientRect(); return at.top >= 0 &&"
        " at.bottom <= innerHeight; })()",
    )


@pytest.mark.parametrize("width", [390, 800, 1920])
def test_nothing_is_wider_than_the_window(make: Callable[..., Path], open_page: Callable[..., Any], width: int) -> None:
    path = make()
    for dialogue, last in {"test/dia0": ".single", "train/dia0": ".alike"}.items():
        page = open_page(path, fragment=_fragment(dialogue=dialogue), width=width)
        page.locator(last).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_faces_are_copied_and_loaded_when_a_dialogue_is_opened(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    path = make()
    assert sorted(one.name for one in path.with_suffix("").glob("faces/*")) == [f"{k}.jpg" for k in range(6)]
    assert not (path.with_suffix("") / "sound").exists()
    page = open_page(path)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/dialogues/")[2]))
    page.get_by_role("button", name="test/dia0").click()
    page.locator(".turn").nth(2).wait_for()
    until(page, "[...document.querySelectorAll('.face img')].every((one) => one.complete && one.naturalWidth === 128)")
    assert asked == ["part-0.js", "texts.js", "faces/0.jpg"]
    assert page.locator(".face img").count() == 2
    assert page.locator(".face.doubtful").get_attribute("title") == "doubtful: in 20 % of the frames"
    assert page.locator(".face.nobody").count() == 1
    assert page.locator(".face img").nth(1).evaluate("(one) => one.style.left") == "-56px"


def test_the_audio_is_there_on_request_where_the_setting_allows_it(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    page = open_page(make(sound=True), fragment=_fragment(dialogue="test/dia1"))
    page.get_by_role("button", name="Play the audio").first.click()
    until(page, "document.querySelector('audio').duration > 0.09")
    assert page.locator("audio").get_attribute("src") == "dialogues/sound/3.flac"


def test_without_text_nothing_that_is_said_is_anywhere_in_the_report(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    path = make(text=False)
    for one in path.parents[2].rglob("*"):
        assert one.is_dir() or not re.search(rb"heron|secret transcript", one.read_bytes(), re.IGNORECASE), one
    page = open_page(path, fragment=_fragment(q="heron", dialogue="test/dia0"))
    page.locator(".turn").first.wait_for()
    assert page.get_by_label("Search in ids (this report was made without texts)").input_value() == "heron"
    assert page.locator(".words").count() == 0
    assert page.locator("#count").inner_text() == "0 utterances in 1 of 6 dialogues"


def test_without_media_there_is_no_image_and_no_audio_but_it_is_known_which_faces_are_doubtful(
    make: Callable[..., Path], open_page: Callable[..., Any]
) -> None:
    path = make(media=False, sound=True)
    assert {one.suffix for one in path.with_suffix("").rglob("*.*")} == {".js"}
    page = open_page(path, fragment=_fragment(doubtful="1", dialogue="test/dia0"))
    page.locator(".turn").first.wait_for()
    assert page.locator("img, audio, .play").count() == 0
    assert _listed(page) == ["test/dia0", "train/dia1"]


def test_without_runs_the_truth_is_shown_and_the_page_says_what_to_run(
    write_shards: Callable[..., Layout], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    write_shards(dialogues=DIALOGUES)
    page = open_page(_written(tmp_path))
    assert _listed(page) == ALL
    assert "only true emotions are shown: merc-train --dataset tiny --recipe NAME" in page.locator("main").inner_text()
    assert page.locator("#predicted").is_disabled()


def test_runs_that_cannot_be_shown_are_named(
    write_shards: Callable[..., Layout], write_run: Callable[..., Path], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    write_shards(dialogues=DIALOGUES)
    write_run(recipe="<b>none")
    notes = open_page(_written(tmp_path)).locator("p.note:visible").all_inner_texts()
    assert notes == ["<b>none is not shown: its run has no predictions.parquet; retrain it."]


def test_utterances_of_which_a_run_says_nothing_are_hatched(
    write_shards: Callable[..., Layout],
    write_run: Callable[..., Path],
    write_predictions: Callable[..., Path],
    open_page: Callable[..., Any],
    tmp_path: Path,
) -> None:
    layout = write_shards(dialogues=DIALOGUES)
    write_predictions(write_run() / "predictions.parquet", layout, without=["test/dia0_utt1"])
    strip = open_page(_written(tmp_path)).get_by_label("predicted by baseline: joy, not predicted, anger")
    assert strip.locator(".none").count() == 1
    assert strip.locator(".none").get_attribute("title") == "not predicted"


def test_hostile_names_and_texts_are_shown_and_do_nothing(
    write_shards: Callable[..., Layout],
    write_run: Callable[..., Path],
    write_predictions: Callable[..., Path],
    retell: Callable[..., None],
    open_page: Callable[..., Any],
    tmp_path: Path,
) -> None:
    name, classes = f"test/{EVIL}", [EVIL, "{{ 7 * 7 }}", "joy"]
    layout = write_shards(dialogues={"train": [("train/dia0", [0, 1])], "test": [(name, [0, 1, 2])]}, classes=classes)
    retell(layout, {f"{name}_utt0": (EVIL, EVIL), f"{name}_utt1": ("__proto__", "constructor")})
    run = write_run(recipe="<i>x", classes=classes)
    write_predictions(run / "predictions.parquet", layout, classes=3, said={f"{name}_utt1": (0, 0.9)})
    path = _written(tmp_path)
    for one in [path, *path.with_suffix("").glob("*.js")]:
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", one.read_text(encoding="utf-8")
        ), one
        assert one.suffix == ".html" or "<" not in one.read_text(encoding="utf-8"), one
    page = open_page(path, fragment=_fragment(dialogue=name, recipe="<i>x", emotion=EVIL, speaker=EVIL, q=EVIL))
    page.locator(".turn").nth(2).wait_for()
    assert page.locator("#count").inner_text() == "1 utterance in 1 of 2 dialogues"
    assert page.locator(".turn .words").first.inner_text() == EVIL_SHOWN
    assert page.locator(".turn .who b").first.inner_text() == EVIL_SHOWN
    assert page.locator(".dialogue h3").first.inner_text() == f"test/{EVIL_SHOWN}"
    assert page.locator("img, main script, main i:not(.legend i), main b:not(.who b)").count() == 0
    assert (
        page.get_by_label("predicted by <i>x").locator(".wrong").get_attribute("title")
        == f"1  {EVIL_SHOWN}, 90 %; true: {{{{ 7 * 7 }}}}"
    )
    assert page.locator(".who").nth(1).locator("> *").all_inner_texts()[:2] == ["{{ 7 * 7 }}", "__proto__"]


def test_labels_that_are_half_characters_are_shown(
    write_shards: Callable[..., Layout], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    layout = write_shards(dialogues=DIALOGUES)
    record = layout.shards / "meta" / "info.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"joy"', '"joy\\ud800"'), encoding="utf-8")
    page = open_page(_written(tmp_path), fragment=_fragment(emotion="joy\ud800", split="test"))
    assert _listed(page) == ["test/dia0", "test/dia1"]
    assert page.locator("#emotion").input_value() == "joy\\ud800"


def test_a_page_without_its_data_next_to_it_says_so(make: Callable[..., Path], open_page: Callable[..., Any]) -> None:
    path = make(fresh=True)
    for name in ("part-0.js", "texts.js"):
        (path.with_suffix("") / name).unlink()
    page = open_page(path, fragment="q=heron", faulty=True)
    page.locator("#note").wait_for()
    assert (
        page.locator("#note").inner_text()
        == "dialogues/texts.js is missing next to this page; copy the whole folder of the report."
    )
    page.goto(path.as_uri() + "#" + _fragment(dialogue="test/dia0"))
    page.locator(".opened .note").wait_for()
    assert (
        page.locator(".opened .note").inner_text()
        == "dialogues/part-0.js is missing next to this page; copy the whole folder of the report."
    )


def test_only_what_is_near_the_window_is_drawn_of_five_thousand_dialogues(
    write_shards: Callable[..., Layout], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    write_shards(dialogues={"train": [(f"train/dia{k}", [k % 7] * 3) for k in range(5000)]})
    page = open_page(_written(tmp_path))
    page.locator(".cells").first.wait_for()
    assert page.locator(".dialogue").count() == 5000
    assert page.locator(".cells").count() < 60
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".cells").count() == 100
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    until(page, "document.querySelectorAll('.cells').length < 60")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.get_by_role("button", name="train/dia4999").wait_for()
    until(page, "document.querySelectorAll('.cells').length < 60")
    page.goto(page.url.partition("#")[0] + "#dialogue=train%2Fdia2500")
    page.locator(".turn").first.wait_for()
    until(
        page,
        "(() => { const top = document.querySelector('.opened').closest('.dialogue').getBoundingClientRect().top;"
        " return top >= 0 && top < 200; })()",
    )


def test_a_run_that_is_gone_while_the_report_is_made_leaves_the_report_that_was_there(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(fresh=True)
    folder, before = path.parents[3], path.read_bytes()
    monkeypatch.setattr(
        compare, "write", lambda *_, **__: (folder / "runs" / "tiny" / "unsure" / "results.json").unlink()
    )
    with pytest.raises(BadTable, match=r"unsure: the run was removed while the report was made; run merc-report again"):
        _written(folder)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("option", "left"), [("--no-text", {".js", ".jpg"}), ("--no-media", {".js"})])
def test_the_command_has_an_option_for_each(make: Callable[..., Path], option: str, left: set[str]) -> None:
    path = make(fresh=True)
    assert {one.suffix for one in path.with_suffix("").rglob("*.*")} == {".js", ".jpg"}
    folder = path.parents[3]
    named = {"out": "features", "runs": "runs", "evaluations": "evaluations", "reports": "reports"}
    result = CliRunner().invoke(main, [option, *(f"--{name}={folder / where}" for name, where in named.items())])
    assert result.exit_code == 0, result.stderr
    assert {one.suffix for one in path.with_suffix("").rglob("*.*")} == left
    assert (path.with_suffix("") / "texts.js").exists() == (option == "--no-media")
