"""The page on the differences between two folders of shards: one file, everything escaped, even if they have nothing in
common.
"""

from pathlib import Path

from merc.reports.difference import render
from merc.shards.difference import Difference, Ids, SplitChange, VectorChange

EVIL = "<script>alert(1)</script>\u202e"


def _page(found: Difference) -> str:
    return render(found, Path("before"), Path(EVIL), 0.5)


def test_equal_folders_are_said_to_be_equal() -> None:
    change = SplitChange(Ids(3), Ids(6), {"text": VectorChange(compared=6)})
    page = _page(Difference({"train": change}, ([], []), ([], []), {}, {}))
    assert "They are equal." in page
    assert "differs by more than 0.5" in page
    assert "None differs." in page


def test_every_kind_of_change_is_reported_and_nothing_is_taken_for_markup() -> None:
    change = SplitChange(
        dialogues=Ids(3, (1, 0), (EVIL, "")),
        utterances=Ids(6),
        vectors={
            "text": VectorChange(
                compared=6,
                changed=2,
                largest=0.25,
                lowest_cosine=0.5,
                mean_cosine=0.75,
                worst="train/dia2_utt0",
                gained=1,
            ),
            "audio": VectorChange(lengths=(4, 5)),
        },
        columns={"emotions": (2, EVIL)},
        failures=(1, 2),
        trajectories=["neighbours_path"],
    )
    page = _page(
        Difference(
            {"train": change},
            (["dev"], []),
            ([], [EVIL]),
            {"encoders.text.revision": ("a", None)},
            {"versions.numpy": ("1", "2")},
        )
    )
    for words in (
        "They differ.",
        "Splits only in A: dev",
        '0.500000</td><td class="n">0.750000</td><td>train/dia2_utt0',
        "not compared: 4 numbers in A, 5 in B",
        "1 failure rows only in A, 2 only in B. Trajectories differ in neighbours_path.",
        '<th scope="row">encoders.text.revision</th><td>&#34;a&#34;</td><td>–</td>',
        "Library versions",
        "\\u202e",
    ):
        assert words in page, words
    assert "<script" not in page
    assert "\u202e" not in page
    assert "<link" not in page


def test_folders_that_share_no_split_have_nothing_to_compare() -> None:
    page = _page(Difference({}, (["train"], ["test"]), ([], []), {}, {}))
    assert "No split is in both." in page
    assert "No modality is in both." in page
