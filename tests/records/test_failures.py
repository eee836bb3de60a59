from dataclasses import asdict

import pytest

from merc.errors import TooManyFailures
from merc.records.failures import REASONS, SCHEMA, Failure, check_limit, limit_of, table


def _rows(*reasons: str) -> list[dict[str, str]]:
    return [Failure(f"train/u{index}", "media", "audio", reason).row() for index, reason in enumerate(reasons)]


def test_a_row_says_whose_it_is_what_happened_and_how_grave_it_is() -> None:
    failure = Failure("train/dia0_utt0", "media", "audio", "media_undecodable", "moov atom not found")
    assert failure.row() == {
        "utterance_id": "train/dia0_utt0",
        "stage": "media",
        "modality": "audio",
        "reason": "media_undecodable",
        "kind": "broken",
        "detail": "moov atom not found",
    }
    assert set(failure.row()) == {*asdict(failure), "kind"} == set(SCHEMA.names)


def test_a_reason_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown reason 'broken_clip'; one of media_missing"):
        Failure("train/dia0_utt0", "media", "audio", "broken_clip")


def test_every_reason_is_broken_absent_or_altered_and_is_explained() -> None:
    assert {kind for kind, _ in REASONS.values()} == {"broken", "absent", "altered"}
    assert all(meaning for _, meaning in REASONS.values())


def test_the_table_keeps_the_order_and_has_the_schema_when_empty() -> None:
    rows = _rows("truncated", "media_missing", "no_face")
    assert table(rows).to_pylist() == rows
    assert table([]).schema == SCHEMA
    assert table([]).num_rows == 0


@pytest.mark.parametrize(("given", "limit"), [("5%", 10.0), ("0", 0.0), ("3", 3.0), (" 0.5 % ", 1.0), ("100%", 200.0)])
def test_the_limit_is_a_number_or_a_share(given: str, limit: float) -> None:
    assert limit_of(given, 200) == limit


@pytest.mark.parametrize("given", ["", "many", "-1", "-5%", "nan", "inf%", "5%%"])
def test_a_limit_that_is_neither_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"max_failed|could not convert"):
        limit_of(given, 200)


def test_only_broken_utterances_count_and_each_once() -> None:
    rows = _rows("media_missing", "no_face", "truncated", "silence")
    rows += [Failure("train/u0", "media", "visual", "media_missing").row()]
    check_limit(rows, utterances=10, max_failed="1", stage="media")
    with pytest.raises(TooManyFailures):
        check_limit(rows, utterances=10, max_failed="0", stage="media")


def test_the_limit_itself_is_still_allowed() -> None:
    rows = _rows(*["media_missing"] * 5)
    check_limit(rows, utterances=100, max_failed="5%", stage="media")
    with pytest.raises(TooManyFailures) as raised:
        check_limit(rows, utterances=99, max_failed="5%", stage="media")
    assert raised.value.exit_code == 3


def test_too_many_failures_are_reported_with_counts_by_reason_and_the_first() -> None:
    with pytest.raises(
        TooManyFailures,
        match=(
            r"media: 3 of 4 utterances are broken \(media_empty 1, media_missing 2; the first is train/u0\), more than"
            r" --max-failed 5%"
        ),
    ):
        check_limit(
            _rows("media_missing", "media_empty", "media_missing"), utterances=4, max_failed="5%", stage="media"
        )


def test_the_detail_of_the_first_broken_one_is_reported() -> None:
    row = Failure("train/a_0", "media", "audio", "no_audio_stream", "track fre was wanted; there is 0 (eng)").row()
    with pytest.raises(
        TooManyFailures,
        match=r"the first is train/a_0: track fre was wanted; there is 0 \(eng\)\), more than --max-failed 0",
    ):
        check_limit([row], utterances=1, max_failed="0", stage="media")
