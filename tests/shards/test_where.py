"""A condition holds where it is known to be true; anything that is not a condition is refused, and none of it is ever
executed.
"""

import numpy as np
import pyarrow as pa
import pytest

from merc.errors import BadSettings
from merc.shards.where import Condition

VALUES = {
    "asr_error": pa.array([0.1, 0.5, 0.9, None], pa.float32()),
    "speaking": pa.array([1.0, -2.0, None, 3.0], pa.float32()),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("asr_error < 0.5", [True, False, False, False]),
        ("asr_error <= 0.5", [True, True, False, False]),
        ("asr_error == 0.1", [True, False, False, False]),
        ("0.2 < asr_error < 0.8", [False, True, False, False]),
        ("not asr_error < 0.5", [False, True, True, False]),
        ("asr_error < 0.5 and speaking > 0", [True, False, False, False]),
        ("asr_error < 0.95 and speaking > 0", [True, False, False, False]),
        ("asr_error > 0.8 or speaking > 0", [True, False, True, True]),
        ("asr_error is None or asr_error < 0.5", [True, False, False, True]),
        ("speaking is not None and (asr_error != 0.5 or speaking >= -2)", [True, True, False, True]),
        ("speaking > -1.5", [True, False, False, True]),
        ("speaking > asr_error", [True, False, False, False]),
        ("  not (speaking > 0)\n", [False, True, False, False]),
    ],
)
def test_only_what_is_true_holds_and_what_is_not_known_decides_nothing(text: str, holds: list[bool]) -> None:
    condition = Condition.parse(text, list(VALUES))
    assert condition.holds(VALUES).tolist() == holds
    assert set(condition.names) <= set(VALUES)
    assert "\n" not in condition.text


@pytest.mark.parametrize("seed", range(5))
def test_long_conditions_agree_with_three_valued_logic_by_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = [None if one < 0.3 else float(np.float32(random.normal())) for one in random.random(200)]
    others = [None if one < 0.3 else float(np.float32(random.normal())) for one in random.random(200)]

    def truth(one: float | None, other: float | None) -> bool:
        first = None if one is None else one < 0.25
        second = None if other is None else not other > 0.5
        either = True if first or second else None if first is None or second is None else False
        return bool(either and (one is not None or other is not None))

    condition = Condition.parse("(a < 0.25 or not b > 0.5) and (a is not None or b is not None)", ["a", "b"])
    found = condition.holds({"a": pa.array(values, pa.float32()), "b": pa.array(others, pa.float32())})
    assert found.tolist() == [truth(one, other) for one, other in zip(values, others, strict=True)]


def test_an_unknown_column_is_named_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(
        BadSettings, match=r"--where: no column 'asr_eror'; did you mean 'asr_error'\? valid: asr_error, speaking"
    ):
        Condition.parse("asr_eror < 0.5", list(VALUES))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hostile')",
        "asr_error < (lambda: 1)()",
        "asr_error.__class__ == 1",
        "asr_error < speaking.real",
        "[asr_error for asr_error in (1,)] == 1",
        "(asr_error := 1) < 2",
        "asr_error < 10 ** 10 ** 10",
        "asr_error + 1 < 2",
        "asr_error < '0.5'",
        "asr_error < True",
        "asr_error < 1j",
        "asr_error < 1e999",
        "asr_error < " + "9" * 400,
        "asr_error < " + "9" * 1900,
        "asr_error in (1, 2)",
        "asr_error is 1",
        "None is asr_error",
        "asr_error is None is None",
        "asr_error < None",
        "asr_error",
        "1",
        "True",
        "1 < 2",
        "asr_error < 0.5 && speaking > 0",
        "asr_error = 0.5",
        "asr_error < 0.5; speaking > 0",
        "asr_error <",
        "f'{asr_error}' < 1",
        "asr_error if speaking else 1",
        "await asr_error",
        "\0",
        "",
        "()",
        "asr_error < 0.5 # and\n or",
        "(" * 300 + "asr_error < 1" + ")" * 300,
        "not " * 400 + "asr_error < 1",
        "asr_error < 1 and " * 200 + "asr_error < 1",
        "\ud800 < 1",
    ],
)
def test_whatever_is_not_a_condition_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(BadSettings, match="--where"):
        Condition.parse(text, list(VALUES))
