"""``mmgcn+dclf@text-audio``: a recipe put together from a base, additions and modalities.

    recipes.mmgcn      { model: mmgcn, losses: [{name: cross_entropy}], batch_dialogues: 16, … }
    additions.dclf     { framework: dclf, losses: [{name: context_aware, weight: 0.6}], batch_dialogues: 8 }
    mmgcn+dclf         { model: mmgcn, framework: dclf, losses: [cross_entropy, context_aware], batch_dialogues: 8, … }
    mmgcn+dclf@text    the same, modalities: [text]

An addition's mappings are merged key by key and everything else takes the place of what was there, with one exception: losses are
merged by their names. A loss that the recipe has already gets the addition's keys, another one is appended, and one of weight 0 goes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merc.errors import BadSettings
from merc.params import Params
from merc.plugins import nearest

RECIPES = "recipes"
ADDITIONS = "additions"
_WORD = "[A-Za-z0-9][A-Za-z0-9_-]*"
_NAME = re.compile(rf"({_WORD})((?:\+{_WORD})*)(?:@([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*))?")


@dataclass(frozen=True)
class RecipeName:
    """The parts of a recipe's name.

    Attributes:
        base: a block under ``recipes``.
        additions: blocks under ``additions``, in the order in which they apply.
        modalities: in place of the recipe's; empty: the recipe's.

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
            raise BadSettings(f"a recipe's name is BASE, BASE+ADDITION or BASE@MODALITY-MODALITY, of letters, digits, _ and -, and {name!r} is not")
        base, additions, modalities = found.groups()
        return cls(base, tuple(additions.split("+")[1:]), tuple(modalities.split("-")) if modalities else ())


def compose(params: Params, name: str, keys: Sequence[str]) -> dict[str, Any]:
    """The block of a recipe, additions applied.

    Args:
        params: the blocks ``recipes`` and ``additions``.
        name: as in the head of this file.
        keys: those that a recipe may have.

    Raises:
        BadSettings: for an unknown base, addition or key of an addition, naming the nearest.
    """
    parts = RecipeName.parse(name)
    block: dict[str, Any] = params.get(f"{RECIPES}.{parts.base}")
    for addition in parts.additions:
        where = f"{ADDITIONS}.{addition}"
        added: dict[str, Any] = params.get(where)
        strange = [key for key in added if key not in keys]
        if strange:
            raise BadSettings(f"settings: unknown key {where}.{strange[0]}; {nearest(strange[0], list(keys))}")
        block = _merged(block, added)
    return {**block, "modalities": list(parts.modalities)} if parts.modalities else block


def _merged(block: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(block)
    for key, value in added.items():
        there = merged.get(key)
        if key == "losses":
            merged[key] = _merged_losses(there or [], value)
        elif isinstance(there, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(there, value)
        else:
            merged[key] = value
    return merged


def _merged_losses(there: Sequence[Mapping[str, Any]], added: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    terms = {term.get("name"): dict(term) for term in there}
    for term in added:
        terms[term.get("name")] = {**terms.get(term.get("name"), {}), **term}
    return [term for term in terms.values() if term.get("weight") != 0]
