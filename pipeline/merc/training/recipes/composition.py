"""``mmgcn+dclf@text-audio``: a recipe put together from a base, additions and modalities.

    recipes/mmgcn.yaml             { model: mmgcn, losses: {cross_entropy: …}, batch_dialogues: 16, … }
    recipes/additions/dclf.yaml    { framework: dclf, losses: {context_aware: {weight: 0.6}}, batch_dialogues: 8 }
    mmgcn+dclf                     { model: mmgcn, framework: dclf, losses: {cross_entropy: …, context_aware: …}, batch_dialogues: 8, … }
    mmgcn+dclf@text                the same, modalities: [text]

A recipe's ``base`` is laid below it, each addition over it, in the order of the name (:mod:`merc.params`): mapping by
mapping, everything else takes the place of what was there. So a loss that the recipe has already gets the addition's
keys, another one is appended, and one that an addition sets to null goes.
"""  # noqa: E501

import re
from dataclasses import dataclass

from merc.errors import BadSettings, nearest
from merc.params import Laid, Origin, Params
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.shelves import ADDITIONS, RECIPES

_WORD = "[A-Za-z0-9][A-Za-z0-9_-]*"
_NAME = re.compile(rf"({_WORD})((?:\+{_WORD})*)(?:@([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*))?")


@dataclass(frozen=True)
class RecipeName:
    """What is in a recipe's name.

    Attributes:
        base: a recipe by itself, a file here or a block under ``recipes`` in params.yaml.
        additions: of ``additions``, in the order in which they apply.
        modalities: instead of the recipe's; empty: the recipe's.

    Example:
        >>> RecipeName.parse("mmgcn+dclf@text-audio")
        RecipeName(base='mmgcn', additions=('dclf',), modalities=('text', 'audio'))
    """

    base: str
    additions: tuple[str, ...]
    modalities: tuple[str, ...]

    @classmethod
    def parse(cls, name: str) -> "RecipeName":
        """Raises ``BadSettings`` if the name is of another form; no name can lead out of the folder of runs."""
        found = _NAME.fullmatch(name)
        if not found:
            raise BadSettings(
                "a recipe's name is BASE, BASE+ADDITION or BASE@MODALITY-MODALITY, of letters, digits, _ and -, and"
                f" {name!r} is not"
            )
        base, additions, modalities = found.groups()
        return cls(base, tuple(additions.split("+")[1:]), tuple(modalities.split("-")) if modalities else ())


def compose(params: Params, name: str) -> Laid:
    """The blocks of a recipe, of its base and of its additions, laid over each other.

    Args:
        params: the user's recipes and additions, and what he lays over those that ship.
        name: as in the head of this file.

    Raises:
        BadSettings: for an unknown recipe, base or addition, or an unknown key of an addition, naming the nearest.
    """
    parts = RecipeName.parse(name)
    laid = RECIPES.read(params, parts.base)
    about, told_by = laid.at("about"), laid.origins.get("about")
    for addition in parts.additions:
        for key in ADDITIONS.read(params, addition).tree:
            if key not in Recipe.model_fields:
                raise BadSettings(
                    f"settings: unknown key additions.{addition}.{key}; {nearest(key, list(Recipe.model_fields))}"
                )
        for one in reversed(ADDITIONS.lineage(params, addition)):
            ADDITIONS.lay(laid, params, one)
    for key in ("about", "base"):
        laid.tree.pop(key, None)
        laid.origins.pop(key, None)
    if told_by is not None:
        laid.tree["about"], laid.origins["about"] = about, told_by
    if parts.modalities:
        laid.lay("modalities", list(parts.modalities), Origin(f"the name {name}"))
    return laid
