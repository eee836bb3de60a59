import pytest

from merc.media.tasks import Clip, DialogueTask, sharing_files

BOTH = frozenset({"audio", "visual"})


def clip(audio: str, video: str, **fields: object) -> Clip:
    return Clip(
        "train/dia0_utt0",
        "train/dia0",
        video,
        audio,
        "full",
        *(fields.pop(name, None) for name in ("vs", "ve", "as_", "ae")),
        **fields,
    )


@pytest.mark.parametrize(
    ("paths", "groups"),
    [
        (["a/a", "b/b", "c/c"], [[0], [1], [2]]),  # MELD: a file per utterance
        (["1/film", "2/film", "3/film"], [[0, 1, 2]]),  # IEMOCAP: a film per dialogue
        (["a/x", "b/y", "c/x", "d/y", "e/z"], [[0, 2], [1, 3], [4]]),
        (["a/x", "b/y", "a/y", "c/z"], [[0, 1, 2], [3]]),  # the third joins the first two
        (["a/x", "x/b"], [[0, 1]]),  # the audio of one is the film of the other
        (["/", "/", "/x"], [[0], [1], [2]]),  # no files, so nothing is shared
        ([], []),
    ],
)
def test_clips_that_share_a_file_are_one_task(paths: list[str], groups: list[list[int]]) -> None:
    assert sharing_files([clip(*path.split("/")) for path in paths], BOTH) == groups


def test_files_of_streams_that_no_one_asked_for_tie_nothing_together() -> None:
    clips = [clip("1", "film"), clip("2", "film")]
    assert sharing_files(clips, frozenset({"audio"})) == [[0], [1]]
    assert sharing_files(clips, frozenset({"visual"})) == [[0, 1]]


def test_the_work_of_a_task_is_what_is_before_the_last_span_of_each_file(config, tmp_path) -> None:
    clips = (
        clip("1", "film", vs=10.0, ve=14.0, annotated_seconds=4.0),
        clip("2", "film", vs=2.0, ve=5.0, annotated_seconds=3.0),
        clip("3", "film", vs=20.0, ve=320.0, annotated_seconds=300.0),
    )
    cap = config.max_clip_seconds
    task = DialogueTask(tmp_path, "meld", clips, BOTH, config, None)
    assert task.seconds == (20 + cap) + 4 + 3 + cap
    assert DialogueTask(tmp_path, "meld", clips[:2], frozenset({"audio"}), config, None).seconds == 7
    whole = clip("a", "a", annotated_seconds=2.5)
    assert DialogueTask(tmp_path, "meld", (whole,), BOTH, config, None).seconds == 2.5


def test_a_task_is_named_by_its_utterances(config, tmp_path) -> None:
    one = DialogueTask(tmp_path, "meld", (clip("a", "a"),), BOTH, config, None)
    assert str(one) == "train/dia0_utt0"
    two = DialogueTask(tmp_path, "meld", (clip("a", "a"), clip("a", "a")), BOTH, config, None)
    assert str(two) == "train/dia0 (2 utterances from train/dia0_utt0 to train/dia0_utt0)"
