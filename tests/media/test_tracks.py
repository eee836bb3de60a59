from pipeline.media import tracks


def test_boxes_that_overlap_are_one_person_and_the_largest_sum_is_chosen(config):
    big = [(100.0, 100.0, 80.0, 80.0), (110.0, 105.0, 80.0, 80.0), (125.0, 100.0, 78.0, 78.0), (140.0, 100.0, 80.0, 80.0)]
    small = [(400.0, 50.0, 30.0, 30.0), (402.0, 50.0, 30.0, 30.0), (404.0, 50.0, 30.0, 30.0), (405.0, 50.0, 30.0, 30.0)]
    linked = tracks.link([[small[n], big[n]] if n % 2 else [big[n], small[n]] for n in range(4)], config)
    assert [track.members for track in linked] == [((0, 0), (1, 1), (2, 0), (3, 1)), ((0, 1), (1, 0), (2, 1), (3, 0))]
    assert tracks.largest(linked) == 0


def test_persistence_beats_size_of_a_passer_by(config):
    frames = [[(10.0, 10.0, 50.0, 50.0)] for _ in range(8)]
    for number in (0, 1):
        frames[number].append((300.0, 10.0, 90.0, 90.0))
    linked = tracks.link(frames, config)
    assert [len(track.members) for track in linked] == [8, 2]
    assert tracks.largest(linked) == 0


def test_a_face_in_a_single_frame_of_eight_is_none(config):
    frames = [[] for _ in range(8)]
    frames[3] = [(10.0, 10.0, 50.0, 50.0)]
    assert tracks.link(frames, config) == []
    assert tracks.largest([]) == -1


def test_a_face_in_the_only_frame_is_one(config):
    linked = tracks.link([[(10.0, 10.0, 50.0, 50.0)]], config)
    assert [track.members for track in linked] == [((0, 0),)]


def test_a_near_box_of_like_size_is_linked_and_one_of_another_size_is_not(config):
    start = (100.0, 100.0, 40.0, 40.0)
    assert tracks.likeness(start, (135.0, 100.0, 40.0, 40.0), config) > 0
    assert tracks.likeness(start, (145.0, 100.0, 40.0, 40.0), config) == 0
    assert tracks.likeness(start, (95.0, 60.0, 90.0, 90.0), config) == 0


def test_a_face_that_turns_away_for_some_frames_stays_one_person(config):
    frames = [[(10.0, 10.0, 50.0, 50.0)], [], [], [(15.0, 10.0, 50.0, 50.0)], []]
    assert [track.members for track in tracks.link(frames, config)] == [((0, 0), (3, 0))]
