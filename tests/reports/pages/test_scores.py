"""The overview and the page of a dataset in a browser: the scores come first and are completely visible, can be sorted
and printed, and link to their provenance.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import write_report

from ..conftest import make_comparison, make_evaluation, make_times, over_seeds

LONG = "dialogue_transformer+idcl+demo+pretrained_demo"
SCORES = {"baseline": 0.5, "mmgcn+dclf": 0.6, LONG: 0.55, "one_seed": 0.4}
OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def report(making: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two datasets, one of them with recipes, evaluations, a comparison and published scores; do not change
    it.
    """
    home = tmp_path_factory.mktemp("scores")
    runs, evaluations = home / "runs", home / "evaluations"
    for dataset in ("meld", "untrained"):
        making.shards(Layout(home / "raw", home / "features", dataset))
    for recipe, score in SCORES.items():
        seeds = [(score, score - 0.1), (score + 0.02, score - 0.12)][: 1 if recipe == "one_seed" else 2]
        making.run(runs, dataset="meld", recipe=recipe, scores=seeds, replace={"parameters": int(1000000 * score)})
    make_times(runs, dataset="meld")
    make_times(runs, dataset="meld", recipe=LONG, wall_seconds=0.5)
    scores = {kind: {"weighted_f1": 0.5} for kind in ("raw", "eccs", "eics")}
    make_evaluation(
        evaluations,
        "context_substitution",
        {"replaced": "earlier utterances", **over_seeds(scores, scores)},
        dataset="meld",
    )
    pair = {
        "first": "baseline",
        "second": "mmgcn+dclf",
        "difference": -0.1,
        "p_holm": 0.01,
        "low": -0.2,
        "high": -0.05,
        "significant": True,
    }
    make_comparison(evaluations, [pair], dataset="meld")
    write_report(Config(), home / "features", runs, home / "reports", evaluations=evaluations)
    return home / "reports"


def _dataset(report: Path) -> Path:
    return report / "pages" / "meld" / "index.html"


def _column(page: Any, number: int = 0, table: str = "table.scores") -> list[str]:
    rows = page.locator(table).first.locator("tbody.rows tr")
    return [" ".join(one.split()) for one in rows.locator(f":scope > :nth-child({number + 1})").all_inner_texts()]


def _first_words(cells: list[str]) -> list[str]:
    return [cell.split()[0] for cell in cells]


@pytest.mark.parametrize("width", [390, 800, 1200, 1920])
@pytest.mark.parametrize("name", ["index.html", "pages/meld/index.html"])
def test_every_score_is_seen_whole_at_every_width(report: Path, open_page: OpenPage, width: int, name: str) -> None:
    page = open_page(report / name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator("table.scores").first
    assert table.bounding_box()["y"] < 460, "the scores stand first"
    cells = table.locator("tbody.rows td.score")
    assert cells.count() == 4 * (len(SCORES) if "meld" in name else 1)
    for box in (cell.bounding_box() for cell in cells.all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] > 30
    assert table.evaluate(
        "one => [...one.querySelectorAll('td.score')].every((cell) => cell.scrollWidth <= cell.clientWidth + 1)"
    )


def test_a_table_that_scrolls_on_a_phone_keeps_the_names_of_its_rows_in_sight(
    report: Path, open_page: OpenPage
) -> None:
    page = open_page(_dataset(report), width=390)
    box = page.get_by_role("region", name="Confusion on test")
    box.evaluate("one => { one.scrollLeft = 100; }")
    assert box.evaluate("one => one.scrollLeft") == 100
    assert box.locator("tbody th").first.bounding_box()["x"] >= 0


def test_columns_sort_by_click_and_by_keyboard(report: Path, open_page: OpenPage) -> None:
    page = open_page(_dataset(report))
    assert _first_words(_column(page)) == ["baseline", LONG, "mmgcn+dclf", "one_seed"]
    head = page.locator("table.scores").first.locator("th", has_text="Test WF1")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert _first_words(_column(page, 2)) == ["49.00", "44.00", "39.00†", "30.00"]
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert _first_words(_column(page, 2)) == ["30.00", "39.00†", "44.00", "49.00"]
    page.locator("table.scores").first.get_by_role("button", name="Recipe").press("Space")
    assert page.locator("table.scores").first.locator("th[aria-sort]").count() == 1
    assert _first_words(_column(page)) == ["baseline", LONG, "mmgcn+dclf", "one_seed"]
    assert page.locator("table.scores").first.locator("tbody.fixed th").inner_text() == "majority class"


def test_numbers_sort_as_numbers_and_what_has_none_comes_last(report: Path, open_page: OpenPage) -> None:
    page = open_page(_dataset(report))
    button = page.locator("table.scores").first.get_by_role("button", name="eters")
    button.click()
    assert _first_words(_column(page)) == ["mmgcn+dclf", LONG, "baseline", "one_seed"]
    page.locator("table.scores").first.get_by_role("button", name="Seconds per epoch").click()
    assert _first_words(_column(page)) == ["baseline", LONG, "mmgcn+dclf", "one_seed"]
    assert _column(page, 10) == ["2", "0.500", "–", "–"]
    assert "not timed" in page.locator("table.scores").first.locator("tbody.rows tr").last.locator(
        "td"
    ).last.get_attribute("title")
    overview = open_page(report / "index.html")
    for _ in range(2):
        overview.get_by_role("button", name="Test WF1").click()
        assert _first_words(_column(overview)) == ["meld", "untrained"]


def test_without_scripts_the_table_is_there_as_it_is(report: Path, open_page: OpenPage) -> None:
    page = open_page(_dataset(report), java_script_enabled=False)
    assert page.locator("table.scores").first.locator("tbody.rows tr").count() == len(SCORES)
    assert page.get_by_role("button").count() == 0


def test_the_best_recipe_and_significant_differences_are_marked(report: Path, open_page: OpenPage) -> None:
    page = open_page(_dataset(report))
    table = page.locator("table.scores").first
    assert "mmgcn+dclf best on dev" in " ".join(table.locator("tr.best th").inner_text().split())
    assert table.locator("sup").count() == 1
    assert "39.00†" in table.locator("tr", has=page.locator("sup")).inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_print_has_the_test_scores_dark_on_white(report: Path, open_page: OpenPage, scheme: str) -> None:
    page = open_page(_dataset(report), width=688, color_scheme=scheme)  # A4 between its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    for cell in page.locator("table.scores").first.locator("td.score").all():
        assert cell.is_visible()
        assert cell.bounding_box()["x"] + cell.bounding_box()["width"] <= 688
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.confusion td')).printColorAdjust") == "exact"
    assert len(page.pdf(format="A4")) > 10000


def test_a_score_leads_to_the_run_that_made_it_and_opens_it(report: Path, open_page: OpenPage) -> None:
    page = open_page(report / "index.html")
    page.get_by_role("link", name="mmgcn+dclf").click()
    page.wait_for_url("**/pages/meld/index.html#run-mmgcn_2bdclf")
    run = page.locator("#run-mmgcn_2bdclf")
    page.locator("#run-mmgcn_2bdclf[open]").wait_for(state="attached")
    assert "runs/meld/mmgcn+dclf" in run.inner_text()
    page.get_by_role("link", name="baseline", exact=True).first.click()
    page.locator("#run-baseline[open]").wait_for(state="attached")  # the browser tells the page of the new hash later


def test_the_contents_lead_to_headings_that_are_there_and_these_are_in_order(report: Path, open_page: OpenPage) -> None:
    page = open_page(_dataset(report))
    targets = page.locator("nav.contents a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert targets == ["#results", "#evaluations", "#published", "#data", "#trajectories", "#encoders", "#provenance"]
    assert page.locator("h2").evaluate_all("heads => heads.map((one) => `#${one.id}`)") == targets
    levels = page.locator("h1, h2, h3, h4").evaluate_all("heads => heads.map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("thead th:not([scope]), tbody th:not([scope])").count() == 0
    assert page.locator("nav.pages a[aria-current=page]").inner_text() == "meld"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_stand_out_from_what_is_behind_them(report: Path, open_page: OpenPage, scheme: str) -> None:
    page = open_page(_dataset(report), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(CONTRASTS) == []


CONTRASTS = r"""() => {
  // Contrast of WCAG 2, section 1.4.3, of each text with the colours behind it, laid over each other.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *:not(svg *):not(script)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) || !element.getClientRects().length) continue;
    const behind = [];
    for (let one = element; one; one = one.parentElement) behind.unshift(getComputedStyle(one).backgroundColor);
    const [back, ink] = [paint(behind), paint([...behind, getComputedStyle(element).color])].map(luminance);
    const contrast = (Math.max(back, ink) + 0.05) / (Math.min(back, ink) + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return [...new Set(faint)];
}"""  # noqa: E501
