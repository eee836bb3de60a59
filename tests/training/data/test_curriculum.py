"""The curriculum: how hard a dialogue is, which ones an epoch trains on, and what a recipe may ask for."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from merc.errors import BadSettings
from merc.job import RunOptions
from merc.params import Params
from merc.training.data.curriculum import Curriculum, Lessons, difficulty, shift_weights
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

PARAMS = Params.load(Path(__file__).resolve().parents[3] / "params.yaml")
CLASSES = ("neutral", "joy", "surprise")
EMOTIONS = [[0, 1, 0, 2], [0, 0, 0, 0], [1], [0, 1, 1, 0, 0, 2], [2, -1, 2, 1], [-1, -1]]
SPEAKERS = [[0, 1, 0, 1], [0, 0, 0, 0], [0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0], [0, 1]]


def slowly(emotions, speakers):
    """A dialogue's difficulty by the formula, with a list for each speaker."""
    said = {
        speaker: [emotion for emotion, who in zip(emotions, speakers, strict=True) if who == speaker and emotion >= 0]
        for speaker in speakers
    }
    shifts = sum(one != other for own in said.values() for one, other in itertools.pairwise(own))
    return (shifts + len(said)) / (sum(map(len, said.values())) + len(said))


def test_the_difficulty_of_a_few_dialogues(make_split):
    """One shift of two speakers in four; none; no pair; three of one in six; one in three labelled; nothing known."""
    found = difficulty(make_split(EMOTIONS, speakers=SPEAKERS))
    assert found.tolist() == pytest.approx([3 / 6, 1 / 5, 1 / 2, 4 / 7, 2 / 4, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_formula_for_any_dialogues(make_split, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (12,), generator=generator).tolist()
    emotions, speakers = [
        [torch.randint(low, 3, (length,), generator=generator).tolist() for length in lengths] for low in (-1, 0)
    ]
    expected = [slowly(*pair) for pair in zip(emotions, speakers, strict=True)]
    assert difficulty(make_split(emotions, speakers=speakers)).tolist() == pytest.approx(expected)


WEIGHTS = {  # of a shift between emotions of three: 0.4 and a third, the cosine of 54 degrees, or nothing
    frozenset({"neutral", "joy"}): 0.4 + 1 / 3,
    frozenset({"neutral", "anger"}): 0.4 + 1 / 3,
    frozenset({"joy", "anger"}): 0.4,
    frozenset({"neutral", "disgust"}): 0.4 + 1 / 3,
    frozenset({"anger", "disgust"}): 0.4 + math.cos(math.radians(54)),
    frozenset({"sad", "frustrated"}): 0.4 + math.cos(math.radians(72)),
    frozenset({"sad", "angry"}): 0.4,  # both unpleasant, and 162 degrees apart
    frozenset({"frustrated", "angry"}): 0.4,
}


@pytest.mark.parametrize(
    "classes", [("neutral", "joy", "anger"), ("disgust", "neutral", "anger"), ("sad", "frustrated", "angry")]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_weighted_shift_counts_by_the_similarity_of_its_emotions(make_split, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (12,), generator=generator).tolist()
    emotions, speakers = [
        [torch.randint(low, 3, (length,), generator=generator).tolist() for length in lengths] for low in (-1, 0)
    ]
    expected = []
    for said, who in zip(emotions, speakers, strict=True):
        total, latest = 0.0, {}
        labelled = [(emotion, speaker) for emotion, speaker in zip(said, who, strict=True) if emotion >= 0]
        for emotion, speaker in labelled:
            before = latest.get(speaker, emotion)
            if before != emotion:
                total += WEIGHTS[frozenset({classes[before], classes[emotion]})]
            latest[speaker] = emotion
        expected.append((total + len(set(who))) / (len(labelled) + len(set(who))))
    found = difficulty(make_split(emotions, speakers=speakers), shift_weights(classes))
    assert found.tolist() == pytest.approx(expected)


def test_weighted_shifts_put_dialogues_in_another_order(make_split):
    """Two shifts between joy and anger in the first dialogue count less than one from anger to disgust in the other."""
    split = make_split([[0, 1, 0], [1, 2, 2]], speakers=[[0, 0, 0], [0, 0, 0]])
    classes = ("joy", "anger", "disgust")
    assert Lessons.of(split, Curriculum(buckets=2), classes).easiest_first.tolist() == [1, 0]
    assert Lessons.of(split, Curriculum(buckets=2, shifts="weighted"), classes).easiest_first.tolist() == [0, 1]


def test_emotions_that_are_not_on_the_wheel_are_refused_only_if_shifts_are_weighted(make_split):
    split, classes = make_split(EMOTIONS, speakers=SPEAKERS), ("neutral", "joyful", "peaceful")
    assert len(Lessons.of(split, Curriculum(buckets=2), classes).easiest_first) == 6
    with pytest.raises(
        BadSettings, match=r"curriculum\.shifts is weighted, and 'joyful' is not on the wheel .* neutral, joy,"
    ):
        Lessons.of(split, Curriculum(buckets=2, shifts="weighted"), classes)


def test_each_epoch_adds_a_bucket_until_all_are_in(make_split):
    lessons = Lessons.of(make_split(EMOTIONS, speakers=SPEAKERS), Curriculum(buckets=4), CLASSES)
    assert lessons.easiest_first.tolist() == [1, 0, 2, 4, 3, 5]  # equally hard ones in the order of the split
    assert [lessons.places(epoch).tolist() for epoch in (1, 2, 3, 4, 5, 99)] == [
        [1, 0],
        [1, 0, 2],
        [1, 0, 2, 4, 3],
        [1, 0, 2, 4, 3, 5],
        [1, 0, 2, 4, 3, 5],
        [1, 0, 2, 4, 3, 5],
    ]


@pytest.mark.parametrize(
    ("emotions", "words"),
    [
        ([[0], [1], [2], [1]], "all 4 train dialogues have one utterance"),
        ([[0, 1], [1, 2], [0, 2]], "difficulty 0.667"),
    ],
)
def test_a_curriculum_over_dialogues_that_are_equally_hard_is_refused(make_split, emotions, words):
    with pytest.raises(BadSettings, match=words):
        Lessons.of(make_split(emotions), Curriculum(buckets=2), CLASSES)


def test_more_buckets_than_dialogues_are_refused(make_split):
    with pytest.raises(BadSettings, match=r"curriculum\.buckets is 7, but there are only 6 train dialogues"):
        Lessons.of(make_split(EMOTIONS), Curriculum(buckets=7), CLASSES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"curriculum": {"buckets": 1}}, r"recipes\.all\.curriculum\.buckets"),
        ({"curriculum": {"bucket": 4}}, r"curriculum\.bucket; did you mean 'buckets'"),
        ({"curriculum": {"buckets": 6}}, "buckets is 6, and after 5 epochs"),
        (
            {"curriculum": {"buckets": 2}, "neighbours": {"similarity": "path", "per_dialogue": 2}},
            "remove one of them",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_reported(tree, change, words):
    tree["recipes"]["all"] |= change
    with pytest.raises(BadSettings, match=words):
        resolve(Params(tree), "all")


def test_losses_may_still_look_at_neighbours(tree):
    tree["recipes"]["all"] |= {"curriculum": {"buckets": 2}, "neighbours": {"similarity": "path", "per_dialogue": 0}}
    assert resolve(Params(tree), "all").recipe.curriculum.buckets == 2


def test_the_addition_goes_with_any_recipe():
    for name in ("multi_dag+curriculum", "mmgcn+curriculum", "dialogue_transformer+curriculum@text"):
        assert resolve(PARAMS, name).recipe.curriculum.buckets == 12


@pytest.fixture
def seen(monkeypatch):
    """The dialogues of every training step while a recipe is trained."""
    batches, forward = [], CrossEntropy.forward

    def noted(self, output, batch, **state):
        batches.append((state["epoch"], batch.dialogue_ids))
        return forward(self, output, batch, **state)

    monkeypatch.setattr(CrossEntropy, "forward", noted)
    return batches


def test_training_goes_from_easy_to_hard_and_does_not_stop_before_the_hardest(make_shards, tree, tmp_path, seen):
    tree["recipes"]["text"] |= {
        "curriculum": {"buckets": 6},
        "epochs": 8,
        "patience_epochs": 1,
        "seeds": [0],
        "optimizer": {"name": "adamw", "learning_rate": 1e-9, "weight_decay": 0.0},  # dev never gets better
    }
    train(resolve(Params(tree), "text"), make_shards(), RunOptions(device="cpu"), runs=tmp_path / "runs")
    epochs = [{one for at, ids in seen for one in ids if at == epoch} for epoch in range(8)]
    assert [len(epoch) for epoch in epochs] == [4, 8, 12, 16, 20, 24, 24, 0]
    assert all(before <= after for before, after in itertools.pairwise(epochs[:7]))


def test_the_seed_decides_the_order_within_an_epoch(make_shards, tree, tmp_path, seen):
    orders = []
    for run, seed in enumerate((0, 0, 1)):
        seen.clear()
        tree["recipes"]["text"] |= {"curriculum": {"buckets": 2}, "epochs": 2, "seeds": [seed]}
        train(resolve(Params(tree), "text"), make_shards(), RunOptions(device="cpu"), runs=tmp_path / f"runs{run}")
        orders.append([ids for _, ids in seen])
    assert orders[0] == orders[1] != orders[2]


def test_train_dialogues_of_one_utterance_end_a_run_before_it_begins(make_shards, tree, tmp_path):
    def shortened(split, rows):
        for row in rows if split == "train" else []:
            row["n_utterances"] = 1
            row.update({name: value[:1] for name, value in row.items() if isinstance(value, list)})

    tree["recipes"]["text"]["curriculum"] = {"buckets": 2}
    with pytest.raises(BadSettings, match="all 24 train dialogues have one utterance; leave"):
        train(
            resolve(Params(tree), "text"),
            make_shards(change=shortened),
            RunOptions(device="cpu"),
            runs=tmp_path / "runs",
        )
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
