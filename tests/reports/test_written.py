"""The results as Markdown and LaTeX, compared with literals; no name can end a cell, a line or a group."""

from collections.abc import Callable
from pathlib import Path

import pytest

from merc.reports import written
from merc.reports.evaluations import Pair, Significance
from merc.reports.pace import Pace
from merc.reports.published import Published, TagGroup
from merc.reports.results import read_recipes
from merc.reports.scoreboard import scoreboards

WriteRun = Callable[..., Path]
PUBLISHED = [
    TagGroup(
        "glove",
        [
            Published(
                corpus="tiny",
                label_set="meld7",
                system="A_B",
                weighted_f1=58.6,
                features="glove",
                year=2021,
                source="Doe & Roe",
            )
        ],
    ),
    TagGroup(
        "sbert",
        [
            Published(
                corpus="tiny",
                label_set="meld7",
                system="C",
                weighted_f1=60,
                accuracy=61.25,
                features="sbert",
                year=2022,
                source="S",
            )
        ],
    ),
]


def _results(
    tmp_path: Path, significance: Significance | None = None, published: list[TagGroup] | None = None
) -> list[written.Results]:
    recipes = read_recipes(tmp_path / "runs", "tiny")
    return [written.Results("tiny", scoreboards(recipes, significance), published or [], {"baseline": Pace(2.0, "")})]


def _differ() -> Significance:
    pair = Pair(
        first="baseline",
        second="text_only",
        seeds=2,
        difference=0.1,
        p_holm=0.01,
        low=0.01,
        high=0.2,
        significant=True,
        seeds_needed=2,
    )
    return Significance([pair], None, 0.05)


def test_the_markdown_table_holds_majority_mean_and_spread_and_marks(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(scores=[(0.50, 0.40), (0.54, 0.46)])
    write_run(
        recipe="text_only", modalities=["text"], scores=[(0.48, 0.41)], replace={"parameters": 12, "causal": True}
    )
    text = written.markdown([*_results(tmp_path, _differ()), written.Results("untrained", [], [])])
    assert (
        text == "# Results\n\n## tiny\n\nLabel set meld7; epochs selected by dev weighted F1; per cent, mean ± standard"
        " deviation over the seeds.\n\n| Recipe | Model | Features | Parameters | Seconds per epoch | Causal | Seeds"
        " | Dev WF1 | Test WF1 | Test Acc | Test macro F1 |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
        " ---: | ---: | ---: |\n| majority class | – | – | – | – | – | – | 31.27 | 31.27 | 48.12 | – |\n|"
        " **baseline** | recurrent | text ngrams, audio acoustic | 1,234,567 | 2 | no | 2 | 52.00 ± 2.83 | **43.00 ±"
        " 4.24** | 44.00 ± 4.24 | 33.00 ± 4.24 |\n| text_only | recurrent | text ngrams | 12 | – | yes | 1 | 48.00 |"
        " 41.00 † | 42.00 | 31.00 |\n\nBold: the highest mean dev WF1, baseline.\n\n† test WF1 differs significantly"
        " from that of baseline: the paired t-test over the seeds, corrected by Holm, and the bootstrap over"
        " dialogues agree.\n\n## untrained\n\nNothing has been trained on it yet.\n"
    )


def test_published_scores_stand_below_in_markdown_features_apart(write_run: WriteRun, tmp_path: Path) -> None:
    write_run()
    text = written.markdown(_results(tmp_path, published=PUBLISHED))
    assert text.endswith(
        "### Published on tiny\n\nAs reported in papers, per cent; features, splits and epoch selection differ, so"
        " these must not be ranked with the rows above.\n\n| System | Features | Modalities | Test WF1 | Test Acc |"
        " Year | Source | Protocol |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n| A_B | glove |  | 58.60 | –"
        " | 2021 | Doe & Roe |  |\n| C | sbert |  | 60.00 | 61.25 | 2022 | S |  |\n"
    )


def test_the_latex_tables_have_the_same_rows_and_marks(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(scores=[(0.50, 0.40), (0.54, 0.46)])
    write_run(
        recipe="text_only", modalities=["text"], scores=[(0.48, 0.41)], replace={"parameters": 12, "causal": True}
    )
    text = written.latex(_results(tmp_path, _differ(), PUBLISHED))
    first, second = text.split("\\end{tabular}\n")[:2]
    assert first.endswith(
        "\\begin{tabular}{lllrrrrrrrr}\n\\toprule\nRecipe & Model & Features & Parameters & Seconds per epoch &"
        " Causal & Seeds & Dev WF1 & Test WF1 & Test Acc & Test macro F1 \\\\\n\\midrule\n"
        "majority class & -- & -- & -- & -- & -- & -- & 31.27 & 31.27 & 48.12 & -- \\\\\n\\midrule\n"
        "\\textbf{baseline} & recurrent & text ngrams, audio"
        " acoustic & 1,234,567 & 2 & no & 2 & 52.00 $\\pm$ 2.83 & \\textbf{43.00 $\\pm$ 4.24} & 44.00 $\\pm$ 4.24 &"
        " 33.00 $\\pm$ 4.24 \\\\\ntext\\_only & recurrent & text ngrams & 12 & -- & yes & 1 & 48.00 &"
        " 41.00$^{\\dagger}$ & 42.00 & 31.00 \\\\\n\\bottomrule\n"
    )
    assert "A\\_B & glove &  & 58.60 & -- & 2021 & Doe \\& Roe &  \\\\\n\\midrule\nC & sbert & " in second


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("100% #1 $x$ a&b", r"100\% \#1 \$x\$ a\&b"),
        ("a~b^c_d", r"a\textasciitilde{}b\textasciicircum{}c\_d"),
        ("<i>|`x'\"", r"\textless{}i\textgreater{}\textbar{}\textasciigrave{}x'\symbol{34}"),
        ("one\\\\\ntwo\x1b", r"one\textbackslash{}\textbackslash{} two\textbackslash{}x1b"),
    ],
)
def test_no_sign_acts_in_latex(text: str, expected: str) -> None:
    assert written.latex_escaped(text) == expected


def test_names_cannot_break_a_table_or_comment(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(replace={"model": "a|b\n| c <img src=x>", "label_set": "x\n\\input{y}"})
    results = _results(tmp_path)
    assert "a\\|b \\| c \\<img src=x\\>" in written.markdown(results)
    text = written.latex(results)
    assert "a\\textbar{}b \\textbar{} c \\textless{}img src=x\\textgreater{}" in text
    assert all(line.startswith("%") for line in text.splitlines() if "input" in line)


def test_one_recipe_alone_is_not_marked_as_the_best(write_run: WriteRun, tmp_path: Path) -> None:
    write_run()
    assert "**" not in written.markdown(_results(tmp_path))
    assert "textbf" not in written.latex(_results(tmp_path))


def test_recipes_of_different_label_sets_have_tables_of_their_own(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(recipe="four", replace={"label_set": "iemocap4"})
    write_run(recipe="six", replace={"label_set": "iemocap6"})
    text = written.markdown(_results(tmp_path))
    assert text.count("| majority class |") == 2
    assert text.index("iemocap4") < text.index("four") < text.index("iemocap6") < text.index("| six")
    assert written.latex(_results(tmp_path)).count("\\begin{tabular}") == 2


def test_recipes_on_fine_tuned_encoders_have_a_table_of_their_own_after_the_others(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(recipe="first", replace={"tag": "adapted"})
    write_run(recipe="second", replace={"tag": "frozen"})
    write_run(recipe="third")  # as written before rows had a tag
    text = written.markdown(_results(tmp_path))
    frozen, tuned = text.split("Label set meld7, encoders fine-tuned on the train labels; ")
    assert ("| **second**" in frozen, "| third" in frozen, "first" in frozen) == (True, True, False)
    assert "| first" in tuned
    assert text.count("| majority class |") == 2
