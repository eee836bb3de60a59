"""Conditions on the quality of utterances, such as ``asr_error < 0.5 and (speaking > 0 or off_screen is None)``.

Conditions are parsed with Python's grammar, of which only names, numbers, comparisons, ``is None``, ``and``, ``or`` and
``not`` are allowed; nothing is ever executed as Python. Comparisons with unknown values are neither true nor false, as
in SQL, and only utterances for which the condition is true are chosen.
"""

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.errors import BadSettings, nearest

_MOST_CHARACTERS, _MOST_DEPTH = 2000, 40
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: pc.less, ast.LtE: pc.less_equal, ast.Gt: pc.greater, ast.GtE: pc.greater_equal, ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}  # fmt: skip
_GRAMMAR = (
    "columns and numbers compared by <, <=, >, >=, ==, !=, `is None` and `is not None`, joined by and, or, not and"
    " parentheses"
)


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    Attributes:
        text: as given, on one line.
        names: names of the columns that it reads, in order.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str, columns: Sequence[str]) -> "Condition":
        """Parses a condition.

        Args:
            text: the condition.
            columns: columns that it may use.

        Raises:
            BadSettings: if it is not a condition, or names another column; the message says what is allowed.
        """
        if len(text) > _MOST_CHARACTERS:
            raise BadSettings(f"--where: {len(text)} characters; a condition has at most {_MOST_CHARACTERS}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            words = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
            raise BadSettings(f"--where {text!r}: {words}; valid: {_GRAMMAR}") from error
        names: dict[str, None] = {}
        _check(tree, text, columns, names, 0)
        if not names:
            raise BadSettings(f"--where {text!r}: names no column; there are {', '.join(columns)}")
        return cls(" ".join(text.split()), tuple(names), tree)

    def holds(self, values: Mapping[str, pa.Array]) -> NDArray[np.bool_]:
        """Where the condition is true.

        Args:
            values: column → numbers, null if unknown; all of the same length.
        """
        found = _evaluated(self._tree, values)
        return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))


def _check(node: ast.expr, text: str, columns: Sequence[str], names: dict[str, None], depth: int) -> None:
    """Refuses whatever is not a condition."""
    if depth > _MOST_DEPTH:
        raise BadSettings(f"--where: nested more than {_MOST_DEPTH} deep")
    if isinstance(node, ast.BoolOp):
        parts: list[ast.expr] = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        parts = [node.operand]
    elif isinstance(node, ast.Compare):
        _check_comparison(node, text, columns, names)
        return
    else:
        raise BadSettings(f"--where {text!r}: {_shown(node, text)} is not a condition; valid: {_GRAMMAR}")
    for part in parts:
        _check(part, text, columns, names, depth + 1)


def _check_comparison(node: ast.Compare, text: str, columns: Sequence[str], names: dict[str, None]) -> None:
    about_null = isinstance(node.ops[0], ast.Is | ast.IsNot)
    if about_null and not (len(node.ops) == 1 and isinstance(node.left, ast.Name) and _is_none(node.comparators[0])):
        raise BadSettings(
            f"--where {text!r}: {_shown(node, text)}: `is` and `is not` need a column before and None after; valid:"
            f" {_GRAMMAR}"
        )
    if not about_null and any(type(one) not in _COMPARISONS for one in node.ops):
        raise BadSettings(f"--where {text!r}: {_shown(node, text)} is not a valid comparison; valid: {_GRAMMAR}")
    for side in [node.left] if about_null else [node.left, *node.comparators]:
        if isinstance(side, ast.Name):
            if side.id not in columns:
                raise BadSettings(f"--where: no column {side.id!r}; {nearest(side.id, list(columns))}")
            names[side.id] = None
        elif _number(side) is None:
            raise BadSettings(
                f"--where {text!r}: {_shown(side, text)} is neither a column nor a number; valid: {_GRAMMAR}"
            )


def _number(node: ast.expr) -> float | None:
    """The finite number at a node, possibly with a sign; else None."""
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, node = (-1.0 if isinstance(node.op, ast.USub) else 1.0), node.operand
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int | float):
        return None
    try:
        value = sign * float(node.value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _shown(node: ast.expr, text: str) -> str:
    return repr(ast.get_source_segment(text.strip(), node) or text.strip())


def _evaluated(node: ast.expr, values: Mapping[str, pa.Array]) -> pa.Array:
    if isinstance(node, ast.BoolOp):
        joined = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        found = _evaluated(node.values[0], values)
        for part in node.values[1:]:
            found = joined(found, _evaluated(part, values))
        return found
    if isinstance(node, ast.UnaryOp):
        return pc.invert(_evaluated(node.operand, values))
    if not isinstance(node, ast.Compare):
        raise TypeError(f"{type(node).__name__} is not a condition")  # _check has refused everything else
    if isinstance(node.ops[0], ast.Is | ast.IsNot):
        known = values[node.left.id].is_valid()  # type: ignore[attr-defined]
        return known if isinstance(node.ops[0], ast.IsNot) else pc.invert(known)
    rows = len(next(iter(values.values())))
    sides = [_side(one, values, rows) for one in (node.left, *node.comparators)]
    found = _COMPARISONS[type(node.ops[0])](sides[0], sides[1])
    for operator, left, right in zip(node.ops[1:], sides[1:], sides[2:], strict=False):  # 0.2 < x < 0.8
        found = pc.and_kleene(found, _COMPARISONS[type(operator)](left, right))
    return found


def _side(node: ast.expr, values: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """The numbers on one side of a comparison, in float32 as stored, so that 0.1 equals the 0.1 of a column."""
    if isinstance(node, ast.Name):
        return values[node.id]
    return pa.array(np.full(rows, _number(node), dtype=np.float32))
