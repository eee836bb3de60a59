import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from merc.errors import BadSettings, BadTable
from merc.job import RunOptions
from merc.params import Params
from merc.training.data.collate import collate, neighbour_batches
from merc.training.data.dataset import read_split
from merc.training.data.neighbours import with_neighbours
from merc.training.losses.cross_entropy import CrossEntropy
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

# Dialogue 3 has none, 4 has one, as may happen with few labelled dialogues.
NEAREST = {0: [1, 2], 1: [0, 2], 2: [1, 0], 3: [], 4: [0], 5: [4, 3]}


def write_index(layout, nearest, similarity="path"):
    """An index with the rows in reverse, since the shards' order is not guaranteed."""
    rows = [
        {
            "dialogue_id": f"train/dia{number}",
            f"neighbours_{similarity}": [f"train/dia{other}" for other in others],
            f"similarity_{similarity}": [1 - 0.25 * rank for rank in range(len(others))],
        }
        for number, others in reversed(nearest.items())
    ]
    schema = pa.schema(
        [
            ("dialogue_id", pa.string()),
            (f"neighbours_{similarity}", pa.list_(pa.string())),
            (f"similarity_{similarity}", pa.list_(pa.float32())),
        ]
    )
    folder = layout.shards / "trajectories"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "train-00000-of-00001.parquet")


@pytest.fixture
def layout(make_shards):
    made = make_shards(splits={"train": 6, "dev": 3, "test": 3})
    write_index(made, NEAREST)
    return made


@pytest.fixture
def split(layout):
    return with_neighbours(read_split(layout.shards, "train", ["text"], classes=3), layout.shards, "path")


def test_neighbours_are_places_in_the_split_and_minus_one_where_there_are_fewer(split):
    assert split.neighbours.tolist() == [[1, 2], [0, 2], [1, 0], [-1, -1], [0, -1], [4, 3]]
    assert split.neighbour_similarity.tolist() == [
        [1.0, 0.75],
        [1.0, 0.75],
        [1.0, 0.75],
        [0.0, 0.0],
        [1.0, 0.0],
        [1.0, 0.75],
    ]


def test_a_batch_has_its_dialogues_neighbours(split):
    batch = collate(split, torch.tensor([5, 3]))
    assert batch.neighbours.tolist() == [[4, 3], [-1, -1]]
    assert batch.neighbour_similarity.tolist() == [[1.0, 0.75], [0.0, 0.0]]


@pytest.mark.parametrize("per_dialogue", [1, 2, 5])
def test_every_dialogue_is_an_anchor_once_and_brings_neighbours_of_its_own(split, per_dialogue):
    anchors = []
    for batch in neighbour_batches(split, 2, per_dialogue, torch.Generator().manual_seed(0)):
        places = batch.dialogue_index.tolist()
        own, brought = places[:2], places[2:]
        anchors += own
        assert len(set(places)) == len(places)
        wanted = {one for anchor in own for one in NEAREST[anchor] if one not in own}
        assert set(brought) <= wanted
        if per_dialogue >= 2:
            assert set(brought) == wanted
        assert len(brought) <= 2 * per_dialogue
    assert sorted(anchors) == list(range(6))


def test_the_seed_decides_the_order_and_the_neighbours(split):
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return [[batch.dialogue_ids for batch in neighbour_batches(split, 3, 1, generator)] for _ in range(4)]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len({str(epoch) for epoch in drawn(0)}) > 1


def test_each_of_the_neighbours_is_drawn_in_time(split):
    generator, met = torch.Generator().manual_seed(0), set()
    for _ in range(40):
        for batch in neighbour_batches(split, 1, 1, generator):
            met |= {(batch.dialogue_index[0].item(), other.item()) for other in batch.dialogue_index[1:]}
    assert met == {(anchor, other) for anchor, others in NEAREST.items() for other in others}


@pytest.mark.parametrize(
    ("nearest", "similarity", "error", "words"),
    [
        ({0: [9]}, "path", BadTable, "not in the shards: train/dia9"),
        ({9: [0]}, "path", BadTable, "not in the shards: train/dia9"),
        ({0: [1]}, "pathh", BadSettings, "no 'pathh'; did you mean 'path'"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(layout, nearest, similarity, error, words):
    write_index(layout, nearest)
    with pytest.raises(error, match=words):
        with_neighbours(read_split(layout.shards, "train", ["text"], classes=3), layout.shards, similarity)


def test_an_index_of_which_no_dialogue_has_neighbours_changes_no_batch(layout):
    write_index(layout, dict.fromkeys(range(6), ()))
    split = with_neighbours(read_split(layout.shards, "train", ["text"], classes=3), layout.shards, "path")
    assert split.neighbours.shape == (6, 0)
    assert [len(batch.dialogue_ids) for batch in neighbour_batches(split, 4, 3, torch.Generator())] == [4, 2]


def test_a_recipe_trains_on_neighbours_and_is_stale_when_they_change(layout, tree, tmp_path, monkeypatch):
    seen, forward = [], CrossEntropy.forward

    def noted(self, output, batch, **state):
        seen.append((len(batch.dialogue_ids), batch.neighbours.shape[1]))
        return forward(self, output, batch, **state)

    monkeypatch.setattr(CrossEntropy, "forward", noted)
    tree["recipes"]["text"] |= {
        "neighbours": {"similarity": "path", "per_dialogue": 2},
        "batch_dialogues": 1,
        "epochs": 1,
        "seeds": [0],
    }
    run = RunOptions(device="cpu")
    made = train(resolve(Params(tree), "text"), layout, run, runs=tmp_path / "runs")
    assert sorted(seen) == [(1, 2), (2, 2), (3, 2), (3, 2), (3, 2), (3, 2)]
    before = (made / "record.json").read_bytes()
    write_index(layout, NEAREST | {5: [4, 2]})
    train(resolve(Params(tree), "text"), layout, run, runs=tmp_path / "runs")
    assert (made / "record.json").read_bytes() != before


def test_a_recipe_that_wants_neighbours_of_shards_without_is_reported(make_shards, tree, tmp_path):
    tree["recipes"]["text"]["neighbours"] = {"similarity": "path", "per_dialogue": 2}
    with pytest.raises(BadTable, match="needs neighbours"):
        train(resolve(Params(tree), "text"), make_shards(), RunOptions(device="cpu"), runs=tmp_path / "runs")
