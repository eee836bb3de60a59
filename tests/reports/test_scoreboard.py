"""Which recipes are in one table, which of them is best, and which are marked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.reports.evaluations import Pair, Significance
from merc.reports.results import read_recipes
from merc.reports.scoreboard import Scoreboard, best_of, percent, scoreboards, significance_words, spread

WriteRun = Callable[..., Path]


def _boards(tmp_path: Path, significance: Significance | None = None) -> list[Scoreboard]:
    return scoreboards(read_recipes(tmp_path / "runs", "tiny"), significance)


def _pair(first: str, second: str, *, significant: bool | None) -> Pair:
    return Pair(
        first=first,
        second=second,
        seeds=2,
        difference=0.1,
        p_holm=0.01,
        low=0.01,
        high=0.2,
        significant=significant,
        seeds_needed=3,
    )


def _significance(*pairs: Pair, reference: str | None = None) -> Significance:
    return Significance(pairs, reference, 0.05)


def _three(write_run: WriteRun, **more: Any) -> None:
    for name, dev in (("high", 0.6), ("low", 0.4), ("middle", 0.5)):
        write_run(recipe=name, scores=[(dev, dev), (dev, dev)], **more)


def test_the_best_recipe_is_chosen_on_dev_and_never_on_test(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(recipe="good_on_dev", scores=[(0.60, 0.30), (0.62, 0.30)])
    write_run(recipe="good_on_test", scores=[(0.50, 0.90), (0.60, 0.90)])
    (board,) = _boards(tmp_path)
    assert [recipe.recipe for recipe in board.recipes] == ["good_on_dev", "good_on_test"]
    assert board.best.recipe == "good_on_dev"


def test_of_equally_good_recipes_the_first_by_name_is_best(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_run(recipe=name, scores=[(0.5, 0.4)])
    assert _boards(tmp_path)[0].best.recipe == "a"


def test_recipes_whose_context_holds_what_is_outside_the_label_set_have_a_table_of_their_own(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(recipe="dropped", replace={"label_set": "iemocap6"})
    write_run(recipe="kept", replace={"label_set": "iemocap6", "unlabelled_in_context": True})
    boards = scoreboards(read_recipes(tmp_path / "runs", "tiny"))
    assert [(board.protocol, board.best.recipe) for board in boards] == [
        ("iemocap6", "dropped"),
        ("iemocap6, with utterances outside it as context", "kept"),
    ]


def test_recipes_of_other_label_sets_and_on_fine_tuned_encoders_have_tables_of_their_own(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(recipe="a_tuned", scores=[(0.9, 0.9)], replace={"tag": "adapted"})
    write_run(recipe="four", scores=[(0.8, 0.8)], replace={"label_set": "iemocap4"})
    write_run(recipe="six", scores=[(0.5, 0.4)], replace={"label_set": "iemocap6"})
    boards = _boards(tmp_path)
    assert [(board.label_set, board.tuned, board.best.recipe) for board in boards] == [
        ("iemocap4", False, "four"),
        ("iemocap6", False, "six"),
        ("meld7", True, "a_tuned"),
    ]


def test_a_dataset_is_represented_by_the_best_recipe_with_the_labels_of_its_shards(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(recipe="four", scores=[(0.8, 0.8)], replace={"label_set": "iemocap4"})
    write_run(recipe="six", scores=[(0.5, 0.4)], replace={"label_set": "iemocap6"})
    boards = _boards(tmp_path)
    chosen = {label_set: best_of(boards, label_set) for label_set in ("iemocap6", "iemocap4", "elsewhere")}
    assert {label_set: recipe.recipe if recipe else "" for label_set, recipe in chosen.items()} == {
        "iemocap6": "six",
        "iemocap4": "four",
        "elsewhere": "four",
    }
    assert best_of([], "iemocap6") is None


def test_recipes_are_marked_that_differ_from_the_best_one_by_both_tests(write_run: WriteRun, tmp_path: Path) -> None:
    _three(write_run)
    pairs = (
        _pair("high", "low", significant=True),
        _pair("high", "middle", significant=False),
        _pair("low", "middle", significant=True),
    )
    (board,) = _boards(tmp_path, _significance(*pairs))
    assert (board.compared_with, board.marked) == ("high", {"low"})
    assert significance_words(board).startswith("† test WF1 differs significantly from that of high: ")


def test_with_a_reference_the_marks_refer_to_it(write_run: WriteRun, tmp_path: Path) -> None:
    _three(write_run)
    pairs = _pair("high", "low", significant=True), _pair("middle", "low", significant=False)
    (board,) = _boards(tmp_path, _significance(*pairs, reference="low"))
    assert (board.compared_with, board.marked) == ("low", {"high"})


def test_without_a_significant_difference_it_is_said_that_there_is_none(write_run: WriteRun, tmp_path: Path) -> None:
    _three(write_run)
    (board,) = _boards(tmp_path, _significance(_pair("high", "low", significant=False)))
    assert significance_words(board).startswith("No test WF1 differs significantly from that of high")


def test_with_one_seed_nothing_is_claimed(write_run: WriteRun, tmp_path: Path) -> None:
    _three(write_run)
    (board,) = _boards(tmp_path, _significance(_pair("high", "low", significant=None)))
    assert board.marked == frozenset()
    assert significance_words(board) == "Fewer than two seeds in common: no significance is claimed."


def test_without_a_comparison_nothing_is_said_of_significance(write_run: WriteRun, tmp_path: Path) -> None:
    _three(write_run)
    assert significance_words(_boards(tmp_path)[0]) == ""
    assert significance_words(_boards(tmp_path, _significance())[0]) == ""


def test_a_score_that_one_seed_lacks_is_a_dash(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(scores=[(0.5, 0.4), (0.5, 0.5)])
    (recipe,) = read_recipes(tmp_path / "runs", "tiny")
    assert percent(spread(recipe, "Test macro F1")) == "35.00 ± 7.07"
    first = recipe.seeds["0"]
    without = recipe.model_copy(
        update={
            "seeds": {
                **recipe.seeds,
                "0": first.model_copy(update={"test": first.test.model_copy(update={"macro_f1": None})}),
            }
        }
    )
    assert percent(spread(without, "Test macro F1")) == "–"
