"""The recipes of a dataset whose scores can be compared: which is best, and which differ from it significantly."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from merc.encoders.engine.adapted import TAG
from merc.reports.evaluations import Significance
from merc.reports.results import Recipe, Seed, Spread

SCORES: dict[str, Callable[[Seed], float | None]] = {
    "Test WF1": lambda seed: seed.test.weighted_f1,
    "Test Acc": lambda seed: seed.test.accuracy,
    "Test macro F1": lambda seed: seed.test.macro_f1,
    "Dev WF1": lambda seed: seed.dev.weighted_f1,
}
"""The scores shown for every recipe, in this order."""


@dataclass(frozen=True)
class Scoreboard:
    """Recipes with one label set and context, and with encoders of one kind; only these are compared.

    Attributes:
        label_set: its name.
        protocol: the same, and what else the context includes (:attr:`merc.reports.results.Recipe.protocol`).
        tag: whether the encoders are frozen or fine-tuned on the train labels.
        recipes: in order.
        best: the one with the highest mean dev weighted F1; the first by name in case of ties.
        compared_with: the recipe that the marks refer to: the best one, or the one in
            ``evaluation.significance.reference``; empty without a comparison.
        marked: recipes whose test weighted F1 differs from that one's by both tests.
        claims_nothing: whether recipes were compared, but with too few common seeds for any claim.
    """

    label_set: str
    protocol: str
    tag: str
    recipes: Sequence[Recipe]
    best: Recipe
    compared_with: str = ""
    marked: frozenset[str] = frozenset()
    claims_nothing: bool = False

    @property
    def tuned(self) -> bool:
        """Whether its encoders were fine-tuned on the train labels."""
        return self.tag == TAG

    @property
    def selections(self) -> str:
        return ", ".join(sorted({recipe.selection for recipe in self.recipes}))


def scoreboards(recipes: Iterable[Recipe], significance: Significance | None = None) -> list[Scoreboard]:
    """Recipes by protocol and tag of the features, in order; fine-tuned encoders come last."""
    groups: dict[tuple[str, str], list[Recipe]] = {}
    for recipe in sorted(recipes, key=lambda recipe: recipe.tag == TAG):
        groups.setdefault((recipe.protocol, recipe.tag), []).append(recipe)
    return [_scoreboard(of_set, significance) for of_set in groups.values()]


def _scoreboard(recipes: Sequence[Recipe], significance: Significance | None) -> Scoreboard:
    what = recipes[0].label_set, recipes[0].protocol, recipes[0].tag
    best = min(recipes, key=lambda recipe: (-recipe.dev_weighted_f1, recipe.recipe))
    if significance is None:
        return Scoreboard(*what, recipes, best)
    names = {recipe.recipe for recipe in recipes}
    anchor = significance.reference or best.recipe
    pairs = (
        {other: pair for other, pair in significance.with_one(anchor).items() if other in names}
        if anchor in names
        else {}
    )
    marked = frozenset(other for other, pair in pairs.items() if pair.significant)
    silent = bool(pairs) and all(pair.significant is None for pair in pairs.values())
    return Scoreboard(*what, recipes, best, anchor if pairs else "", marked, silent)


def best_of(boards: Sequence[Scoreboard], label_set: str) -> Recipe | None:
    """The best recipe of the first scoreboard with the label set of the shards, else of the first; None if nothing was
    trained.
    """
    own = [board for board in boards if board.label_set == label_set] or boards
    return own[0].best if own else None


def spread(recipe: Recipe, score: str) -> Spread | None:
    """A score of :data:`SCORES` over the seeds; None if one of them lacks it."""
    values = [SCORES[score](seed) for seed in recipe.seeds.values()]
    there = [value for value in values if value is not None]
    return Spread(there) if len(there) == len(values) else None


def percent(value: Spread | None) -> str:
    """A score in the field's usual format; a dash if there is none."""
    return value.percent() if value else "–"


def significance_words(board: Scoreboard) -> str:
    """What the marks mean, in a sentence; empty if recipes were not compared."""
    if not board.compared_with:
        return ""
    if board.claims_nothing:
        return "Fewer than two seeds in common: no significance is claimed."
    if not board.marked:
        return (
            f"No test WF1 differs significantly from that of {board.compared_with}, by the paired t-test over the seeds"
            " and the bootstrap over dialogues."
        )
    tests = "the paired t-test over the seeds, corrected by Holm, and the bootstrap over dialogues agree"
    return f"† test WF1 differs significantly from that of {board.compared_with}: {tests}."
