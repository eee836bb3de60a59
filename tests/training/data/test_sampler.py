"""The windows drawn, compared with a search through all windows with plain loops, and on MELD's real labels."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merc.training.data.sampler import EmotionWindowSampler

NEUTRAL, JOY, FEAR, SAD = range(4)


def drawn(sampler, seed=0):
    return sampler.draw(torch.Generator().manual_seed(seed)).tolist()


def renamed(speakers):
    """Speakers numbered in the order in which they speak."""
    return [list(dict.fromkeys(speakers)).index(one) for one in speakers]


def slow(emotions, speakers, scenarios, window, *, exclude_same_scenario, match_speakers):
    """Row of the utterance → its distance, and all windows at that distance as lists of rows, the latest utterance
    first.
    """
    starts = np.cumsum([0, *map(len, emotions)])
    found = {}
    for own, dialogue in enumerate(emotions):
        for position in range(len(dialogue)):
            width = min(window, position)
            wanted = dialogue[position - width : position]
            turns = renamed(speakers[own][position - width : position])
            at = {}
            for other, candidates in enumerate(emotions):
                same_scenario = (
                    exclude_same_scenario
                    and scenarios is not None
                    and scenarios[own]
                    and scenarios[own] == scenarios[other]
                )
                if other == own or same_scenario or not width:
                    continue
                for start in range(len(candidates) - width + 1):
                    if match_speakers and renamed(speakers[other][start : start + width]) != turns:
                        continue
                    distance = sum(
                        one != two for one, two in zip(wanted, candidates[start : start + width], strict=True)
                    )
                    rows = [int(starts[other]) + start + step for step in reversed(range(width))]
                    at.setdefault(distance, []).append(rows)
            found[int(starts[own]) + position] = (min(at), at[min(at)]) if at else (-1, [])
    return found


corpora = st.lists(
    st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=6
)


@given(
    corpus=corpora,
    window=st.integers(1, 5),
    scenarios=st.sampled_from([None, "aabbab", ["", "", "a", "a", "", "b"]]),
    switches=st.integers(0, 3),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_nearest_windows_are_drawn(make_split, corpus, window, scenarios, switches):
    emotions = [[label for label, _ in dialogue] for dialogue in corpus]
    speakers = [[speaker for _, speaker in dialogue] for dialogue in corpus]
    scenarios = scenarios and list(scenarios)[: len(corpus)]
    options = {"exclude_same_scenario": bool(switches & 1), "match_speakers": bool(switches & 2)}
    sampler = EmotionWindowSampler(make_split(emotions, scenarios=scenarios, speakers=speakers), window, **options)
    expected = slow(emotions, speakers, scenarios, window, **options)
    assert sampler.distances.tolist() == [expected[row][0] for row in sorted(expected)]
    for seed in range(3):
        for row, rows in enumerate(drawn(sampler, seed)):
            _, windows = expected[row]
            assert rows in [one + [-1] * (window - len(one)) for one in windows] if windows else rows == [-1] * window


def test_windows_relax_from_the_exact_one_as_little_as_possible(make_split):
    sampler = EmotionWindowSampler(
        make_split(
            [
                [NEUTRAL, JOY, JOY, FEAR, SAD],  #     rows 0 to 4
                [FEAR, JOY, JOY, FEAR],  #             rows 5 to 8: holds joy joy fear
                [NEUTRAL, JOY, SAD],  #                rows 9 to 11: neutral joy sad is at 1 from neutral joy joy
            ]
        ),
        3,
        exclude_same_scenario=False,
        match_speakers=False,
    )
    rows = drawn(sampler)
    assert rows[0] == [-1, -1, -1]  # no history
    assert rows[1] == [9, -1, -1]  # the only neutral elsewhere
    assert rows[2] == [10, 9, -1]
    assert rows[3] == [11, 10, 9]
    assert rows[4] == [8, 7, 6]
    assert sampler.distances[:5].tolist() == [-1, 0, 0, 1, 0]


def test_windows_at_the_smallest_distance_are_equally_likely(make_split):
    # Before the last utterance of the first dialogue: joy fear. At distance 1 elsewhere, of two patterns: joy joy at 4,
    # 5; sad fear at 7, 10, 13.
    emotions = [[JOY, FEAR, SAD], [SAD, JOY, JOY], [SAD, FEAR], [SAD], [SAD, FEAR], [SAD], [SAD, FEAR]]
    sampler = EmotionWindowSampler(make_split(emotions), 2, exclude_same_scenario=False, match_speakers=False)
    generator = torch.Generator().manual_seed(4)
    counts = Counter(tuple(sampler.draw(generator)[2].tolist()) for _ in range(2000))
    assert set(counts) == {(5, 4), (7, 6), (10, 9), (13, 12)}
    assert all(abs(count - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_equal_seeds_give_equal_windows_and_others_give_others(make_split):
    emotions = np.random.default_rng(0).integers(0, 2, (6, 20)).tolist()
    sampler = EmotionWindowSampler(make_split(emotions), 2, exclude_same_scenario=False, match_speakers=False)
    assert drawn(sampler, 1) == drawn(sampler, 1)
    assert drawn(sampler, 1) != drawn(sampler, 2)


@pytest.mark.parametrize("emotions", [[[JOY]], [[JOY, JOY, JOY]], [[JOY], [SAD], [FEAR]]])
def test_without_another_dialogue_or_without_history_nothing_is_drawn(make_split, emotions):
    sampler = EmotionWindowSampler(make_split(emotions), 4, exclude_same_scenario=True, match_speakers=False)
    assert set(np.ravel(drawn(sampler))) == {-1}
    assert set(sampler.distances.tolist()) == {-1}


def test_more_windows_than_are_compared_at_once_change_nothing(make_split, monkeypatch):
    split = make_split(np.random.default_rng(1).integers(-1, 3, (9, 12)).tolist())
    whole = EmotionWindowSampler(split, 4, exclude_same_scenario=False, match_speakers=False)
    monkeypatch.setattr("merc.training.data.sampler._COMPARED_AT_ONCE", 100)
    parts = EmotionWindowSampler(split, 4, exclude_same_scenario=False, match_speakers=False)
    assert drawn(whole) == drawn(parts)
    assert np.array_equal(whole.distances, parts.distances)


def test_a_window_without_utterances_is_refused(make_split):
    with pytest.raises(ValueError, match="at least 1 utterance, not 0"):
        EmotionWindowSampler(make_split([[JOY]]), 0, exclude_same_scenario=True, match_speakers=False)


@pytest.fixture(scope="session")
def meld_emotions(real_data):
    """The train dialogues' emotions by name."""
    dialogues = {}
    with (real_data / "meld" / "train_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dialogues.setdefault(int(row["Dialogue_ID"]), {})[int(row["Utterance_ID"])] = row["Emotion"]
    return [[utterances[position] for position in sorted(utterances)] for _, utterances in sorted(dialogues.items())]


def test_on_meld_nearly_every_window_of_four_has_an_exact_twin(make_split, meld_emotions):
    names = sorted({name for dialogue in meld_emotions for name in dialogue})
    emotions = [[names.index(name) for name in dialogue] for dialogue in meld_emotions]
    sampler = EmotionWindowSampler(
        make_split(emotions, modalities=[]), 4, exclude_same_scenario=True, match_speakers=False
    )
    homes = {}  # pattern → dialogues that have it
    for number, dialogue in enumerate(emotions):
        for start in range(len(dialogue) - 3):
            homes.setdefault(tuple(dialogue[start : start + 4]), set()).add(number)
    expected = []
    for number, dialogue in enumerate(emotions):
        for end in range(4, len(dialogue)):
            wanted = tuple(dialogue[end - 4 : end])
            if homes[wanted] != {number}:
                expected.append(0)
                continue
            changed = [(*wanted[:place], other, *wanted[place + 1 :]) for place in range(4) for other in range(7)]
            expected.append(1 if any(homes.get(one, set()) - {number} for one in changed) else 2)
    positions = np.concatenate([np.arange(len(dialogue)) for dialogue in emotions])
    assert sampler.distances[positions >= 4].tolist() == expected
    assert Counter(expected) == {0: 5796, 1: 424, 2: 1}  # 93.2 %, and all but "anger fear sadness disgust" within 1
    rows = sampler.draw(torch.Generator().manual_seed(0)).numpy()
    labels, owners = (
        np.concatenate(emotions),
        np.repeat(np.arange(len(emotions)), [len(dialogue) for dialogue in emotions]),
    )
    full = np.flatnonzero(positions >= 4)
    assert np.array_equal(
        (labels[rows[full]] != labels[full[:, None] - np.arange(1, 5)]).sum(axis=1), sampler.distances[full]
    )
    assert (owners[rows[full]] != owners[full][:, None]).all()
    assert (np.diff(rows[full], axis=1) == -1).all()  # consecutive, and in one dialogue
    assert (owners[rows[full]] == owners[rows[full][:, :1]]).all()
