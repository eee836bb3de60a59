"""The scenes of benchmarks/speaking_face.py match their names in its tables."""

from types import SimpleNamespace

import numpy as np
import pytest

from _scenes import Head


@pytest.fixture
def heads(benchmark):
    """Heads without a face, but with the landmarks of one."""
    points = np.array([[92, 98], [148, 98], [120, 125], [100, 150], [140, 150]], float)
    return [
        Head(np.full((50, 240, 240, 3), tone, np.uint8), np.repeat(points[None], 50, axis=0)) for tone in (60, 120, 180)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_shot_of_the_speaker_and_one_of_a_listener_share_no_one(benchmark, real_data, heads, seed):
    scene = benchmark.compose(seed, real_data, heads, "reverse")
    one, other = ({person.name for person in shot.persons} for shot in scene.shots)
    assert not one & other
    assert (scene.speaker in one) != (scene.speaker in other)
    assert sum(len(shot.persons[0].mouth) for shot in scene.shots) == len(scene.frames) == round(len(scene.sound) / 640)


def test_who_has_moved_is_the_same_one_at_another_place_after_the_cut(benchmark, real_data, heads):
    scene = benchmark.compose(1, real_data, heads, "moved")
    cut = scene.shots[1].first
    for shot in scene.shots:
        for one in shot.persons:
            box = (one.x - one.width / 2, one.y - one.width / 2, one.width, one.width)
            assert scene.name_at(shot.first, box) == one.name
    before, after = (next(person for person in shot.persons if person.name == scene.speaker) for shot in scene.shots)
    assert (
        scene.name_at(cut - 1, (before.x, before.y, 0, 0))
        == scene.name_at(cut, (after.x, after.y, 0, 0))
        == scene.speaker
    )
    assert (before.x, before.y, before.width) != (after.x, after.y, after.width)
    assert np.any(scene.frames[cut] != scene.frames[cut - 1])


@pytest.mark.parametrize("seed", range(3))
def test_no_one_speaks_where_the_speaker_is_off_screen(benchmark, real_data, heads, seed):
    scene = benchmark.compose(seed, real_data, heads, "off_screen")
    assert scene.speaker == -1
    assert all(person.kind != "speaker" for person in scene.persons)
    assert np.abs(scene.sound).max() > 0.05


def test_the_best_limit_is_between_those_who_are_seen_to_speak_and_those_who_are_not(benchmark):
    seen, hidden = (
        [SimpleNamespace(picks={"ava": SimpleNamespace(best=best)}) for best in bests]
        for bests in ([0.2, 1.0, 2.0], [-2.0, -1.0, 0.4])
    )
    limit = benchmark.separating(seen, hidden, "ava")
    assert -1.0 < limit < 0.2 or 0.4 < limit < 1.0
    assert benchmark.told(hidden, "ava", -0.5) == pytest.approx(2 / 3)
    assert benchmark.told(
        [*hidden, SimpleNamespace(picks={"ava": SimpleNamespace(best=None)})], "ava", 9.0
    ) == pytest.approx(3 / 4)
