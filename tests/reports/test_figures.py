"""Figures: escaped, reproducible, usable on a light and on a dark page."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from merc.corpora.engine.labels import LABEL_SETS
from merc.reports import colours as colours_of
from merc.reports import figures
from merc.reports.results import Epoch, read_recipes

SHARES = {split: {"joy": (30, 0.75), "<b>$\\frac$</b>": (10, 0.25)} for split in ("train", "dev")}


def test_bars_are_valid_xml_with_labels_escaped_and_not_read_as_formulas() -> None:
    svg = figures.labels(SHARES)
    words = [text for element in ElementTree.fromstring(svg).iter() for text in element.itertext()]  # noqa: S314 - made a line above
    assert "<b>$\\frac$</b>" in words
    assert {"joy", "30", "10", "train", "dev"} <= set(words)
    assert "<b>" not in svg


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert figures.labels(SHARES) == figures.labels(SHARES)


def test_text_has_the_pages_colour_and_ids_are_hashes_of_what_they_name() -> None:
    svg = figures.labels(SHARES)
    assert "currentColor" in svg
    assert "#010203" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(re.fullmatch(r"[mp][0-9a-f]{10}", one) for one in ids)


def test_figures_hold_no_date_and_point_nowhere() -> None:
    svg = figures.labels(SHARES)
    assert "<metadata" not in svg
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', svg))


def test_points_name_every_recipe_and_the_majority_class(write_run: Callable[..., Path], tmp_path: Path) -> None:
    write_run(recipe="first")
    write_run(recipe="second")
    svg = figures.scores(read_recipes(tmp_path / "runs", "tiny"))
    assert all(f">{words}</text>" in svg for words in ("first", "second", "majority class", "a seed", "mean"))


def test_names_that_are_long_foreign_or_hostile_leave_the_points_their_room(
    write_run: Callable[..., Path], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for name in ("mmgcn" + "+weighted" * 12, "名前<b>\x01\u202e"):
        write_run(recipe=name)
    svg = figures.scores(read_recipes(tmp_path / "runs", "tiny"))
    words = [text for element in ElementTree.fromstring(svg).iter() for text in element.itertext()]  # noqa: S314 - made a line above
    assert {"名前<b>\\x01\\u202e", "mmgcn+weighted+weig…ted+weighted+weighted"} <= set(words)
    assert [str(one.message) for one in recwarn] == []


def test_a_history_of_one_epoch_whose_chosen_one_is_missing_is_drawn() -> None:
    assert ">seed 0</text>" in figures.history([Epoch("0", 1, 1.0, 0.5)], {})


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_no_two_classes_of_a_label_set_share_a_colour(name: str) -> None:
    classes = LABEL_SETS[name].classes
    colours = colours_of.emotion_colours(classes)
    assert list(colours) == list(classes) or set(colours) == set(classes)
    assert len(set(colours.values())) == len(classes)


def test_an_emotion_without_a_colour_of_its_own_gets_a_free_one() -> None:
    colours = colours_of.emotion_colours(["joy", "boredom", "calm"])
    assert len(set(colours.values())) == 3


def test_letters_are_black_on_light_and_white_on_dark() -> None:
    assert [colours_of.ink_on(colour) for colour in ("#F0E442", "#0072B2", "#000000", "#ffffff")] == [
        "#000000",
        "#ffffff",
        "#ffffff",
        "#000000",
    ]
