"""``mmgcn+dclf@text-audio``: a recipe composed of a base, additions and modalities.

    recipes/mmgcn.yaml             { model: mmgcn, losses: {cross_entropy: …}, batch_dialogues: 16, … }
    recipes/additions/dclf.yaml    { framework: dclf, losses: {context_aware: {weight: 0.6}}, batch_dialogues: 8 }
    mmgcn+dclf                     { model: mmgcn, framework: dclf, losses: {cross_entropy: …, context_aware: …}, batch_dialogues: 8, … }
    mmgcn+dclf@text                the same, modalities: [text]

A recipe overrides its ``base``, and additions override the recipe in the order of the name (:mod:`merc.params`):
mappings are merged, everything else is replaced. So an existing loss of the recipe gets the addition's keys, a new one
is appended, and one that an addition sets to null is removed.
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
    """The parts of a recipe's name.

    Attributes:
        base: a plain recipe, a file here or a block under ``recipes`` in params.yaml.
        additions: names of ``additions``, in the order in which they apply.
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
        """Raises ``BadSettings`` if the name has another form; no name can lead out of the folder of runs."""
        found = _NAME.fullmatch(name)
        if not found:
            raise BadSettings(
                "a recipe's name is BASE, BASE+ADDITION or BASE@MODALITY-MODALITY, of letters, digits, _ and -, and"
                f" {name!r} is not"
            )
        base, additions, modalities = found.groups()
        return cls(base, tuple(additions.split("+")[1:]), tuple(modalities.split("-")) if modalities else ())


def compose(params: Params, name: str) -> Laid:
    """The merged blocks of a recipe, its base and its additions.

    Args:
        params: the user's recipes and additions, and overrides of shipped ones.
        name: as in the head of this file.

    Raises:
        BadSettings: for an unknown recipe, base or addition, or an unknown key of an addition; the message gives the
            nearest one.
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
