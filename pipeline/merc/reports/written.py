"""The results of all datasets as a Markdown document and as LaTeX, for papers: the same rows and marks as on the
pages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from merc import shown
from merc.reports.pace import NOTHING, Pace
from merc.reports.published import TagGroup
from merc.reports.results import Recipe
from merc.reports.scoreboard import Scoreboard, percent, significance_words, spread

HEADS = (
    "Recipe",
    "Model",
    "Features",
    "Parameters",
    "Seconds per epoch",
    "Causal",
    "Seeds",
    "Dev WF1",
    "Test WF1",
    "Test Acc",
    "Test macro F1",
)
PUBLISHED_HEADS = ("System", "Features", "Modalities", "Test WF1", "Test Acc", "Year", "Source", "Protocol")
_TEXT_COLUMNS = 3
_MARKED = HEADS.index("Test WF1")
_NOT_RANKED = (
    "As reported in papers, per cent; features, splits and epoch selection differ, so these must not be ranked with"
    " the rows above."
)


@dataclass(frozen=True)
class Results:
    """The results of a dataset; ``paces`` by recipe."""

    dataset: str
    boards: Sequence[Scoreboard]
    published: Sequence[TagGroup]
    paces: Mapping[str, Pace] = field(default_factory=dict)


def result_cells(recipe: Recipe, pace: Pace) -> list[str]:
    """One recipe's row under :data:`HEADS`; scores in per cent, mean ± standard deviation over the seeds."""
    facts = [
        recipe.recipe,
        recipe.model,
        recipe.features,
        f"{recipe.parameters:,}",
        str(pace),
        "yes" if recipe.causal else "no",
        str(len(recipe.seeds)),
    ]
    return facts + [percent(spread(recipe, score)) for score in HEADS[len(facts) :]]


def majority_cells(recipe: Recipe) -> list[str]:
    """The row of always guessing the train split's most frequent class."""
    dev, test = recipe.majority["dev"], recipe.majority["test"]
    return [
        "majority class",
        "–",
        "–",
        "–",
        "–",
        "–",
        "–",
        *(f"{100 * score:.2f}" for score in (dev.weighted_f1, test.weighted_f1, test.accuracy)),
        "–",
    ]


def published_rows(groups: Iterable[TagGroup]) -> list[list[str]]:
    """Rows under :data:`PUBLISHED_HEADS`, those with the same features together."""

    def score(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    return [
        [
            row.system,
            row.features,
            ", ".join(row.modalities.split()),
            score(row.weighted_f1),
            score(row.accuracy),
            str(row.year),
            row.source,
            row.protocol,
        ]
        for group in groups
        for row in group.rows
    ]


def about(board: Scoreboard) -> str:
    """What the scores of a table are, in one line."""
    tuned = ", encoders fine-tuned on the train labels" if board.tuned else ""
    return (
        f"Label set {board.protocol}{tuned}; epochs selected by {board.selections}; per cent, mean ± standard deviation"
        " over the seeds."
    )


def markdown(results: Iterable[Results]) -> str:
    """``results.md``."""
    lines = ["# Results", ""]
    for one in results:
        lines += [f"## {shown.markdown(one.dataset)}", ""]
        if not one.boards:
            lines += ["Nothing has been trained on it yet.", ""]
        for board in one.boards:
            lines += [
                shown.markdown(about(board)),
                "",
                _row(HEADS),
                _row("---" if at < _TEXT_COLUMNS else "---:" for at in range(len(HEADS))),
            ]
            lines += [
                _row(map(shown.markdown, majority_cells(board.recipes[0]))),
                *(_row(_markdown_cells(recipe, one, board)) for recipe in board.recipes),
                "",
            ]
            lines += [part for line in _legend(board) for part in (shown.markdown(line), "")]
        if one.published:
            lines += [
                f"### Published on {shown.markdown(one.dataset)}",
                "",
                _NOT_RANKED,
                "",
                _row(PUBLISHED_HEADS),
                _row(["---"] * len(PUBLISHED_HEADS)),
            ]
            lines += [*(_row(map(shown.markdown, cells)) for cells in published_rows(one.published)), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _legend(board: Scoreboard) -> list[str]:
    """What the marks mean; empty if there are none, since a single recipe is not marked as best."""
    bold = f"Bold: the highest mean dev WF1, {board.best.recipe}." if len(board.recipes) > 1 else ""
    return [line for line in (bold, significance_words(board)) if line]


def _markdown_cells(recipe: Recipe, of: Results, board: Scoreboard) -> list[str]:
    cells = [shown.markdown(cell) for cell in result_cells(recipe, of.paces.get(recipe.recipe, NOTHING))]
    if recipe is board.best and len(board.recipes) > 1:
        cells[0], cells[_MARKED] = f"**{cells[0]}**", f"**{cells[_MARKED]}**"
    cells[_MARKED] += " †" * (recipe.recipe in board.marked)
    return cells


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$", "–": "--", "†": r"$^{\dagger}$",
}  # fmt: skip


def latex_escaped(text: str) -> str:
    r"""A line of text that LaTeX typesets literally: no character of it is special, and it ends no line, cell or group.

    >>> print(latex_escaped("50% of a_b & \\input{x}"))
    50\% of a\_b \& \textbackslash{}input\{x\}
    """
    return "".join(_LATEX.get(sign, sign) for sign in shown.visible(" ".join(text.split())))


def latex(results: Iterable[Results]) -> str:
    """``results.tex``: a tabular for each table, to be read with ``\\input``; it needs the package booktabs."""
    lines = ["% Needs \\usepackage{booktabs}, and textcomp with a LaTeX older than 2020."]
    for one in results:
        for board in one.boards:
            lines += ["", *_comments(f"{one.dataset}: {about(board)}", *_legend(board)), *_tabular(one, board)]
        if one.published:
            lines += ["", *_comments(f"{one.dataset}, published: {_NOT_RANKED}"), *_published_tabular(one.published)]
    return "\n".join(lines) + "\n"


def _comments(*texts: str) -> list[str]:
    return [f"% {shown.visible(' '.join(text.split()))}" for text in texts if text]


def _tabular(of: Results, board: Scoreboard) -> list[str]:
    rows = [_latex_cells(recipe, of, board) for recipe in board.recipes]
    columns = "l" * _TEXT_COLUMNS + "r" * (len(HEADS) - _TEXT_COLUMNS)
    return _booktabs(columns, HEADS, [[list(map(latex_escaped, majority_cells(board.recipes[0])))], rows])


def _latex_cells(recipe: Recipe, of: Results, board: Scoreboard) -> list[str]:
    cells = [latex_escaped(cell) for cell in result_cells(recipe, of.paces.get(recipe.recipe, NOTHING))]
    if recipe is board.best and len(board.recipes) > 1:
        cells[0], cells[_MARKED] = f"\\textbf{{{cells[0]}}}", f"\\textbf{{{cells[_MARKED]}}}"
    cells[_MARKED] += _LATEX["†"] * (recipe.recipe in board.marked)
    return cells


def _published_tabular(groups: Sequence[TagGroup]) -> list[str]:
    return _booktabs(
        "lllrrrll",
        PUBLISHED_HEADS,
        [[list(map(latex_escaped, cells)) for cells in published_rows([group])] for group in groups],
    )


def _booktabs(columns: str, heads: Sequence[str], parts: Iterable[Iterable[Sequence[str]]]) -> list[str]:
    """A rule separates the parts."""
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _latex_row(map(latex_escaped, heads))]
    for part in parts:
        lines += ["\\midrule", *(_latex_row(cells) for cells in part)]
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"
