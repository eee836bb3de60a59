"""The comparison page in a browser: two recipes are picked, and all tables are about them; missing data is replaced by
a sentence.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import write_report

from ..compared import write_evaluations, write_predictions, write_significance
from .chromium import until

LABELS = [0, 1, 2, 3, 4, -1]
PARTS = (
    "scores",
    "confusion",
    "classes",
    "changed",
    "shift",
    "context",
    "calibration",
    "robustness",
    "training",
    "representations",
    "settings",
)
HOSTILE = "<b>\"sad\"</b> & 'x'\u202e"


@pytest.fixture
def opened(write_shards: Callable[..., Layout], open_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Makes the report of the files below ``tmp_path`` and opens the page."""

    def make(*, classes: Any = None, **how: Any) -> Any:
        write_shards(**({} if classes is None else {"classes": classes}))
        return open_page(_written(tmp_path), **how)

    return make


def _written(folder: Path) -> Path:
    write_report(Config(), folder / "features", folder / "runs", folder / "reports", evaluations=folder / "evaluations")
    return folder / "reports" / "pages" / "tiny" / "compare.html"


@pytest.fixture(scope="module")
def report(making: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the recipes ``best``, ``next`` and ``last`` with everything that can be compared; do not change
    it.
    """
    home = tmp_path_factory.mktemp("three")
    making.shards(Layout(home / "raw", home / "features", "tiny"))
    for recipe, dev, said in (
        ("best", 0.6, [0, 1, 2, 0, 0, 0]),
        ("next", 0.5, [0, 0, 2, 3, 1, 1]),
        ("last", 0.4, [1, 1, 1, 1, 1, 1]),
    ):
        folder = making.run(home / "runs", recipe=recipe, scores=[(dev, dev - 0.1), (dev + 0.02, dev - 0.1)])
        write_predictions(folder, [said, said], LABELS)
        write_evaluations(home / "evaluations", recipe, base=dev)
    pairs = [
        {"first": "next", "second": "best", "difference": -0.1, "low": -0.15, "high": -0.05},
        {"first": "last", "second": "best", "significant": False},
    ]
    write_significance(home / "evaluations", pairs, dict.fromkeys(("best", "next", "last"), "1"))
    return _written(home)


@pytest.fixture
def three(report: Path, open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Opens that page."""
    return lambda **how: open_page(report, **how)


def _part(page: Any, name: str) -> Any:
    return page.locator(f"[data-part={name}]")


def _rows(part: Any) -> dict[str, list[str]]:
    """Head of the row → its other cells."""
    return {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in part.locator("tbody tr").all()
    }


def test_the_best_on_dev_is_next_to_the_next_best_and_every_part_says_something(three: Callable[..., Any]) -> None:
    page = three()
    assert [page.locator(f"#{one}").input_value() for one in ("first", "second")] == ["best", "next"]
    for part in PARTS:
        assert _part(page, part).inner_text().strip(), part
    assert "merc-evaluate" not in page.locator("#compared").inner_text()
    assert (
        page.locator(".chart polyline").count() == 2 + 2 + 4 * 2
    )  # reliability, robustness, two curves of two seeds of two recipes
    assert page.locator(".chart .point").count() == 2 * 20


def test_the_difference_is_the_second_less_the_first(three: Callable[..., Any]) -> None:
    page = three()
    assert _rows(_part(page, "scores"))["Test weighted F1"] == ["50.00 ± 0.00", "40.00 ± 0.00", "−10.00"]
    page.locator("#swap").click()
    assert _rows(_part(page, "scores"))["Test weighted F1"][2] == "+10.00"
    assert _rows(_part(page, "context"))["by another emotion (EICS)"] == ["", "45.50 ± 0.71", "55.50 ± 0.71", "+10.00"]


def test_what_is_claimed_is_what_the_tests_of_significance_say_in_the_direction_of_the_page(
    three: Callable[..., Any],
) -> None:
    page = three()
    claim = page.locator(".claim")
    assert claim.inner_text().startswith(
        "Significant: −10.00 points of test weighted F1 over 2 seeds (p = 0.020 after Holm's correction; drawing"
        " dialogues: −15.00 to −5.00)"
    )
    page.locator("#swap").click()
    assert "Significant: +10.00" in claim.inner_text()
    assert "+5.00 to +15.00" in claim.inner_text()
    page.locator("#second").select_option("last")
    assert claim.inner_text().startswith(
        "Whether they differ significantly was not tested: merc-evaluate --dataset tiny"
    )
    page.locator("#first").select_option("best")
    assert claim.inner_text().startswith("Not significant")
    assert claim.inner_text().endswith("would need about 4 seeds.")


def test_picking_another_changes_the_tables_and_the_address_which_opens_the_same_again(
    three: Callable[..., Any],
) -> None:
    page = three()
    before = _part(page, "confusion").inner_text()
    page.locator("#second").select_option("last")
    assert page.url.endswith("#a=best&b=last")
    after = _part(page, "confusion").inner_text()
    assert after != before
    again = three(fragment="a=best&b=last")
    assert _part(again, "confusion").inner_text() == after
    page.go_back()
    until(page, "document.getElementById('second').value === 'next'")
    assert _part(page, "confusion").inner_text() == before


def test_a_cell_of_a_confusion_matrix_leads_to_its_utterances(three: Callable[..., Any]) -> None:
    page = three()
    links = _part(page, "confusion").locator("a")
    assert links.count() == 2 * 7 * 7
    assert (
        links.nth(1).get_attribute("href") == "dialogues.html#recipe=best&emotion=neutral&predicted=surprise&split=test"
    )
    assert (
        links.nth(49 + 7).get_attribute("href")
        == "dialogues.html#recipe=next&emotion=surprise&predicted=neutral&split=test"
    )


def test_utterances_that_changed_are_counted_without_unlabelled_ones_and_listed_with_links(
    three: Callable[..., Any],
) -> None:
    part = _part(three(), "changed")
    counts = {
        row.locator("th").inner_text(): row.locator("td").inner_text() for row in part.locator(".counts tr").all()
    }
    assert list(counts.values()) == ["1", "1", "1", "2"]
    part.locator("summary").first.click()
    listed = part.locator("details").first.locator("tbody tr")
    assert listed.locator("td").all_inner_texts() == ["surprise", "surprise", "neutral"]
    assert listed.locator("a").get_attribute("href") == "dialogues.html#dialogue=test%2Fdia0"
    assert listed.locator("a").inner_text() == "test/dia0_utt1"


def test_a_long_list_of_changed_utterances_is_cut_and_says_so(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    ids = [f"test/dia{number}_utt0" for number in range(1234)]
    for recipe, said in (("one", 0), ("two", 1)):
        write_predictions(write_run(recipe=recipe), [[said] * 1234] * 2, [0] * 1234, ids=ids)
    part = _part(opened(fragment="a=one&b=two"), "changed")
    assert "Right in the first, wrong in the second: 1\u202f234" in part.inner_text()
    part.locator("summary").click()
    assert "The first 200 of 1\u202f234." in part.inner_text()
    assert part.locator("details tbody tr").count() == 200


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1200, "dark")])
def test_the_scores_are_whole_and_nothing_is_wider_than_the_window(
    three: Callable[..., Any], width: int, theme: str
) -> None:
    page = three(width=width, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "(() => { const box = document.querySelector('.scores').parentElement; return box.scrollWidth <="
        " box.clientWidth; })()"
    )


def test_without_scripts_a_sentence_says_so_and_leads_to_the_scores(three: Callable[..., Any]) -> None:
    page = three(java_script_enabled=False)
    assert not page.locator("#compared").is_visible()
    assert "scripts are disabled" in page.locator("main").inner_text()
    page.locator("noscript a").click()
    assert page.locator("table.scores td.score").first.is_visible()


def test_cells_are_read_easily_on_their_colours(three: Callable[..., Any]) -> None:
    """WCAG 2 contrast of the darkest and the lightest cells in both themes."""
    lowest = """() => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const seen = (colour, below) => {
        for (const one of [below, colour]) { canvas.fillStyle = one; canvas.fillRect(0, 0, 1, 1); }
        return canvas.getImageData(0, 0, 1, 1).data;
      };
      const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
      const light = (data) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => sum + weight * linear(data[at] / 255), 0);
      const page = getComputedStyle(document.body).backgroundColor;
      return Math.min(...[...document.querySelectorAll(".confusion tbody td, .name, .scores td, .pick label")].map((one) => {
        const back = seen(getComputedStyle(one).backgroundColor, page), ink = seen(getComputedStyle(one.querySelector("a") ?? one).color, page);
        const [low, high] = [light(back), light(ink)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      }));
    }"""  # noqa: E501
    for theme in ("light", "dark"):
        assert three(color_scheme=theme).evaluate(lowest) >= 4.5, theme


def test_print_has_the_scores_and_the_names(three: Callable[..., Any]) -> None:
    page = three()
    page.emulate_media(media="print")
    for words in ("50.00 ± 0.00", "40.00 ± 0.00", "best", "next"):
        assert page.locator(".scores").get_by_text(words, exact=False).first.is_visible(), words
    assert not page.locator("#swap").is_visible()
    assert page.locator(".confusion td").nth(1).evaluate("one => getComputedStyle(one).printColorAdjust") == "exact"


def test_it_is_worked_by_the_keyboard(three: Callable[..., Any]) -> None:
    page = three()
    page.locator("#second").focus()
    page.keyboard.press("ArrowUp")
    until(page, "location.hash.includes('b=')")
    page.locator("#swap").focus()
    first = page.locator("#first").input_value()
    page.keyboard.press("Enter")
    until(page, f"document.getElementById('second').value === '{first}'")
    assert page.locator("label[for=first], label[for=second]").count() == 2
    assert page.locator("th:not([scope])").count() == 0


def test_without_a_run_a_sentence_says_how_to_train_one(opened: Callable[..., Any]) -> None:
    page = opened()
    assert (
        "Nothing has been trained on it yet: merc-train --dataset tiny --recipe NAME"
        in page.locator("main").inner_text()
    )
    assert "No sweep has two finished points" in page.locator("main").inner_text()


def test_one_run_alone_has_nothing_to_be_compared_with(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    write_run(recipe="alone")
    assert "Only alone has been trained on it" in opened().locator("main").inner_text()


def test_runs_of_other_classes_are_not_compared_and_a_sentence_says_which(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    write_run(recipe="seven")
    write_run(recipe="two", classes=("sad", "other"), replace={"label_set": "pair"})
    page = opened(fragment="a=seven&b=two")
    told = page.locator("#told").inner_text()
    assert told.startswith("They predict different emotions")
    assert told.endswith("two has pair (sad, other).")
    assert not page.locator("#compared").is_visible()


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("a=best&b=best", "Both are best"),
        ("a=nobody", "No recipe is called nobody"),
        ("a=%E0%A4%A", "No recipe is called"),
    ],
)
def test_an_address_that_names_no_pair_is_reported(three: Callable[..., Any], fragment: str, words: str) -> None:
    page = three(fragment=fragment)
    assert words in page.locator("#told").inner_text()
    page.locator("#swap").click()
    page.locator("#first").select_option("last")
    page.locator("#second").select_option("next")
    assert page.locator("#compared").is_visible()


def test_what_was_not_evaluated_or_kept_is_a_sentence_with_the_command(
    write_run: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path
) -> None:
    for recipe in ("one", "two"):
        write_run(recipe=recipe)
    write_evaluations(tmp_path / "evaluations", "two", fingerprint="of an earlier training")
    page = opened(fragment="a=one&b=two")
    for part, protocol in (
        ("shift", "emotion_shift"),
        ("context", "context_substitution"),
        ("representations", "representations"),
    ):
        words = _part(page, part).inner_text()
        assert f"one has no such evaluation: merc-evaluate --dataset tiny --recipe one --protocol {protocol}" in words
        assert "The evaluation of two is from an earlier training" in words
    assert (
        "one has no predictions; retrain it: merc-train --dataset tiny --recipe one"
        in _part(page, "changed").inner_text()
    )


def test_of_one_seed_nothing_is_claimed(write_run: Callable[..., Path], opened: Callable[..., Any]) -> None:
    write_run(recipe="one", scores=[(0.5, 0.4)])
    write_run(recipe="two")
    page = opened(fragment="a=one&b=two")
    assert page.locator(".claim").inner_text().startswith("Fewer than two seeds in common")
    assert _rows(_part(page, "scores"))["Test weighted F1"][0] == "40.00"


def test_names_that_hold_markup_are_shown_as_they_are(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    classes = (HOSTILE, "</script><script>alert(1)</script>")
    for recipe in ("<i>a&b", "b=c&d"):
        write_predictions(
            write_run(recipe=recipe, classes=classes),
            [[0, 1, 0]] * 2,
            [1, 1, 0],
            classes=2,
            ids=["test/<b>_utt0", f"test/{HOSTILE}_utt1", "test/c_utt2"],
        )
    page = opened(classes=classes)
    page.locator("#swap").click()
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert _part(page, "confusion").locator("tbody th").first.inner_text() == shown
    assert page.locator("i, b, script:not([src])").filter(has_text=re.compile("sad|alert")).count() == 0
    again = opened(classes=classes, fragment=page.url.partition("#")[2])
    assert again.locator("#compared").is_visible()
    assert {again.locator(f"#{one}").input_value() for one in ("first", "second")} == {"<i>a&b", "b=c&d"}


def test_a_recipe_that_may_not_be_ranked_with_the_other_is_marked(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    write_run(recipe="one", shards="earlier")
    write_run(recipe="two", replace={"tag": "adapted"})
    notes = opened(fragment="a=one&b=two").locator(".note").all_inner_texts()
    assert "must not be ranked" in notes[0]
    assert notes[1] == "The shards have been remade since one was trained."


def test_a_sweep_over_two_settings_is_a_heat_map_with_the_best_on_dev_marked_and_test_on_request(
    write_run: Callable[..., Path], opened: Callable[..., Any], tmp_path: Path
) -> None:
    _sweep(write_run, [(rate, units, 0.4 + rate + units / 100) for rate in (0.1, 0.2) for units in (4, 8)][:3])
    page = opened()
    table = page.locator("table.heat").first
    assert table.locator("thead th").all_inner_texts() == ["4", "8"]
    assert table.locator("tbody th").all_inner_texts() == ["0.1", "0.2"]
    assert table.locator("td.chosen").inner_text().split() == ["64.00", "best", "on", "dev"]
    assert table.locator("tbody td").last.inner_text() == "–"
    assert not page.locator("details table.heat").is_visible()
    page.locator("details", has=page.locator("table.heat")).locator("summary").click()
    assert page.locator("details table.heat").is_visible()
    assert page.locator("#first optgroup").count() in (0, 2)


def test_a_sweep_over_one_setting_is_a_line_for_each_value(
    write_run: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    for units in (4, 8, 16):
        name = f"text+gru-units-{units}"
        folder = write_run(recipe=name, scores=[(0.4 + units / 100, 0.4)])
        _settings(folder, name, {"models": {"gru": {"units": units}}})
    table = opened(width=390).locator("table.heat").first
    assert table.locator("tbody th").all_inner_texts() == ["4", "8", "16"]
    assert "56.00" in table.locator("td.chosen").inner_text()


def _sweep(write_run: Callable[..., Path], points: list[tuple[float, int, float]]) -> None:
    for rate, units, dev in points:
        name = f"text+optimizer-rate-{str(rate).replace('.', '_')}+gru-units-{units}"
        folder = write_run(recipe=name, scores=[(dev, 0.4)])
        _settings(folder, name, {"models": {"gru": {"units": units}}, "recipes": {name: {"optimizer": {"rate": rate}}}})


def _settings(folder: Path, name: str, settings: dict[str, Any]) -> None:
    from merc import files

    files.write_json(
        folder / "record.json",
        {"fingerprint": "1", "settings": {"recipes": {name: {}}, **settings}, "inputs": {"shards": "0"}},
    )


def test_it_is_the_same_bytes_for_the_same_inputs(report: Path) -> None:
    folder = report.parent
    before = {name: (folder / name).read_bytes() for name in ("compare.html", "compare-data.js")}
    _written(report.parents[3])
    assert {name: (folder / name).read_bytes() for name in before} == before
