"""Where shard files are cut."""

import pytest

from merc.shards.format.cutting import file_name, plan_files


@pytest.mark.parametrize(
    ("sizes", "spans"),
    [
        ([], []),
        ([10], [(0, 1)]),
        ([50, 50], [(0, 2)]),
        ([50, 51], [(0, 1), (1, 2)]),
        ([500, 1, 1], [(0, 1), (1, 3)]),
        ([1, 500, 1], [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_a_file_ends_before_the_dialogue_that_would_exceed_the_limit(
    sizes: list[int], spans: list[tuple[int, int]]
) -> None:
    assert plan_files(sizes, 100) == spans


def test_names_carry_split_number_and_count() -> None:
    assert file_name("dev", 2, 11) == "dev-00002-of-00011.parquet"
