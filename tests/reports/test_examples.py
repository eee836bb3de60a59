"""Which dialogues are drawn, and how."""

from collections.abc import Callable
from pathlib import Path

import pytest

from merc.errors import BadSettings
from merc.layout import Layout
from merc.reports.examples import Example, abbreviations, read_examples

CLASSES = ["neutral", "joy", "anger"]
COLOURS = {"neutral": "#A3A3A3", "joy": "#F0E442", "anger": "#D55E00"}
DIALOGUES = {
    "train": [
        ("train/flat0", [0, 0, 0, 0]),
        ("train/flat1", [0, 0, 0, 0]),
        ("train/moves0", [0, 1, 1, 2]),
        ("train/moves1", [0, 1, 1, 2, 2]),
        ("train/moves2", [-1, 0, 0, 1, 1, 2]),
    ],
    "test": [("test/moves", [0, 1, 1, 2])],
}


def _read(layout: Layout, similarity: str = "path", number: int = 2, neighbours: int = 2) -> list[Example]:
    return read_examples(
        layout.shards / "trajectories",
        similarity,
        classes=CLASSES,
        colours=COLOURS,
        number=number,
        neighbours=neighbours,
    )


@pytest.fixture
def layout(write_shards: Callable[..., Layout]) -> Layout:
    return write_shards(dialogues=DIALOGUES, classes=CLASSES)


def test_a_dialogue_that_moves_is_preferred_to_two_that_are_all_the_same(layout: Layout) -> None:
    first = _read(layout)[0]
    assert first.dialogue.dialogue_id.startswith("train/moves")
    assert all(strip.dialogue_id.startswith("train/moves") for strip in first.neighbours)
    assert first.dialogue.similarity is None
    similarities = [strip.similarity for strip in first.neighbours]
    assert similarities == sorted(similarities, reverse=True)  # type: ignore[type-var]


def test_what_was_shown_as_a_neighbour_is_not_an_example_of_its_own(layout: Layout) -> None:
    examples = _read(layout, number=9)
    shown: set[str] = set()
    for example in examples:
        assert example.dialogue.dialogue_id not in shown
        shown |= {strip.dialogue_id for strip in example.neighbours}


def test_path_strips_fill_the_width_and_unlabelled_cells_have_no_colour(layout: Layout) -> None:
    strips = {
        strip.dialogue_id: strip
        for example in _read(layout, number=9)
        for strip in (example.dialogue, *example.neighbours)
    }
    strip = strips["train/moves2"]
    assert [cell.colour for cell in strip.cells] == ["none", "#A3A3A3", "#A3A3A3", "#F0E442", "#F0E442", "#D55E00"]
    assert [cell.letters for cell in strip.cells] == ["", "N", "N", "J", "J", "A"]
    assert strip.cells[-1].left + strip.cells[-1].width == pytest.approx(100)
    assert strip.cells[0].title == "utterance 0: outside the label set"


def test_other_similarities_keep_one_width_per_utterance(layout: Layout) -> None:
    for example in _read(layout, "edit"):
        assert len({cell.width for strip in (example.dialogue, *example.neighbours) for cell in strip.cells}) == 1


def test_a_similarity_that_was_not_computed_is_named(layout: Layout) -> None:
    with pytest.raises(BadSettings, match=r"report\.similarity: .* no neighbours by 'histogram'; .*valid: edit, path"):
        _read(layout, "histogram")


def test_without_trajectories_or_neighbours_there_are_no_examples(
    tmp_path: Path, write_shards: Callable[..., Layout]
) -> None:
    assert read_examples(tmp_path, "path", classes=CLASSES, colours=COLOURS, number=2, neighbours=2) == []
    assert _read(write_shards(dialogues={"train": [("train/dia0", [-1, -1])]}, classes=CLASSES)) == []


def test_abbreviations_tell_the_classes_apart() -> None:
    assert abbreviations(["neutral", "surprise", "sadness", "anger", "angry"]) == {
        "neutral": "N",
        "surprise": "Su",
        "sadness": "Sa",
        "anger": "Ange",
        "angry": "Angr",
    }
    assert abbreviations(["sad", "sadness"]) == {"sad": "Sad", "sadness": "Sadn"}
