"""Small shards whose vectors encode the class, written as by the shards stage, and batches made by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from merc import files
from merc.encoders.engine.base import EncodedSequence
from merc.extraction import sequences
from merc.layout import Layout
from merc.params import Params
from merc.shards.format.schema import SCHEMA_VERSION, schema
from merc.training.data.batch import DialogueBatch
from merc.training.data.collate import collate
from merc.training.data.dataset import DialogueSplit
from merc.training.data.sequences import Sequences
from merc.training.loop.trainer import _Training
from merc.training.models.engine.base import MERCModel
from merc.training.recipes.resolution import ResolvedPhase, resolve

CLASSES = ("neutral", "joy", "anger")
DIMS = {"text": 6, "audio": 5, "visual": 4}


@pytest.fixture
def tree() -> dict[str, Any]:
    """The blocks of params.yaml that training reads, small; every modality has its own recipe."""
    recipe: dict[str, Any] = {
        "model": "context_gru",
        "modalities": ["text", "audio", "visual"],
        "losses": {"cross_entropy": {"weight": 1.0}},
        "optimizer": {"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.0},
        "schedule": "constant",
        "epochs": 5,
        "patience_epochs": 5,
        "batch_dialogues": 8,
        "min_steps_per_epoch": 1,
        "gradient_clip": 1.0,
        "feature_limit_std": 10.0,
        "seeds": [0, 1],
    }
    return {
        "models": {"context_gru": {"hidden_units": 8, "layers": 1, "dropout": 0.1, "speakers": "same"}},
        "run": {"max_failed": "5%"},
        "losses": {
            "cross_entropy": {
                "class_weights": "none",
                "effective_beta": 0.99,
                "weight_by_class": {},
                "other_weight": 1.0,
                "label_smoothing": 0.0,
                "fused_weight": 1.0,
                "unimodal_weight": 0.0,
            }
        },
        "frameworks": {},
        "additions": {},
        "recipes": {"all": recipe, **{name: {**recipe, "modalities": [name]} for name in DIMS}},
    }


TOY_FRAMEWORK = '''
from torch import nn

from merc.params import Settings
from merc.training.frameworks.base import Framework


class Toy(Framework):
    """Classifies what the model hides once more, and scales it."""

    class Config(Settings):
        scale: float = 0.5

    def __init__(self, config, model):
        super().__init__(config, model)
        self.head = nn.Linear(model.gives.hidden, model.classes)

    def forward(self, batch):
        output = self.model(batch)
        output.logits = output.logits + self.config.scale * self.head(output.hidden)
        return output
'''


@pytest.fixture
def toy_framework(
    tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A framework ``toy`` instead of the existing ones, with its block, and the addition ``toy``."""
    folder = tmp_path_factory.mktemp("path")
    package = f"toy_frameworks_{folder.name}"
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / "toy.py").write_text(TOY_FRAMEWORK)
    monkeypatch.syspath_prepend(folder)
    for module in ("recipes.resolution", "loop.checkpoint"):
        monkeypatch.setattr(f"merc.training.{module}.FRAMEWORKS", package)
    tree["frameworks"] = {"toy": {"scale": 0.5}}
    tree["additions"] = {"toy": {"framework": "toy"}}


@pytest.fixture
def params(tree: dict[str, Any]) -> Params:
    return Params(tree)


def _rows(
    split: str, dialogues: int, modalities: Sequence[str], labels: Callable[[int], int], generator: np.random.Generator
) -> list[dict[str, Any]]:
    directions = {name: np.random.default_rng(99).normal(size=(len(CLASSES), DIMS[name])) * 2 for name in DIMS}
    rows = []
    for number in range(dialogues):
        length = int(generator.integers(1, 7))
        true = generator.integers(0, len(CLASSES), length)
        shown = [labels(int(label)) for label in true]
        speakers = generator.integers(0, 2, length)
        ids = [f"dia{number}_utt{position}" for position in range(length)]
        row: dict[str, Any] = {
            "corpus": "tiny",
            "split": split,
            "dialogue_id": f"{split}/dia{number}",
            "scenario": "",
            "n_utterances": length,
            "n_speakers": 2,
            "utterance_ids": [f"{split}/{one}" for one in ids],
            "source_utterance_ids": ids,
            "speakers": [f"S{one}" for one in speakers],
            "speaker_index": speakers.tolist(),
            "texts": [""] * length,
            "emotions": [CLASSES[one] for one in true],
            "emotion_index": shown,
            "sentiments": [""] * length,
            **{name: [None] * length for name in ("valence", "arousal", "dominance")},
            **{name: [0.0] * length for name in ("start_seconds", "end_seconds")},
        }
        for name in modalities:
            present = generator.random(length) > 0.1
            vectors = directions[name][true] + generator.normal(size=(length, DIMS[name])) * 0.3
            row[name] = np.where(present[:, None], vectors, 0.0).astype(np.float32).tolist()
            row[f"{name}_present"] = present.tolist()
        rows.append(row)
    return rows


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Layout]:
    """Writes shards and returns their layout.

    Keywords: ``modalities``; ``splits`` (split → dialogues); ``labels`` (true class → emotion_index); ``change``
    (split, rows → None).
    """

    def make(
        modalities: Sequence[str] = tuple(DIMS),
        splits: dict[str, int] | None = None,
        labels: Callable[[int], int] = lambda label: label,
        change: Callable[[str, list[dict[str, Any]]], None] = lambda split, rows: None,
        dataset: str = "tiny",
    ) -> Layout:
        layout = Layout(tmp_path / "raw", tmp_path / "features", dataset)
        generator = np.random.default_rng(5)
        dims = {name: DIMS[name] for name in modalities}
        table_schema = schema(dims, {"corpus": dataset}, CLASSES)
        (layout.shards / "dialogues").mkdir(parents=True, exist_ok=True)
        stats, counts = {}, {}
        for split, dialogues in (splits or {"train": 24, "dev": 8, "test": 10}).items():
            rows = _rows(split, dialogues, modalities, labels, generator)
            change(split, rows)
            shown = [label for row in rows for label in row["emotion_index"]]
            labelled = {name: shown.count(index) for index, name in enumerate(CLASSES)}
            present = {name: sum(sum(row[f"{name}_present"]) for row in rows) for name in modalities}
            counts[split] = {"dialogues": len(rows), "utterances": len(shown), "labels": labelled, "present": present}
            pq.write_table(
                pa.Table.from_pylist(rows, schema=table_schema),
                layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet",
            )
            if split == "train":
                for name in modalities:
                    present = np.concatenate([row[f"{name}_present"] for row in rows])
                    values = np.concatenate([row[name] for row in rows])[present]
                    stats[name] = {"count": len(values), "mean": values.mean(0).tolist(), "std": values.std(0).tolist()}
        info = {
            "schema_version": SCHEMA_VERSION,
            "corpus": dataset,
            "classes": list(CLASSES),
            "label_set": "tiny3",
            "modalities": list(modalities),
            "splits": list(counts),
            "counts": counts,
            "dims": dims,
            "encoders": {name: {"name": f"{name}-encoder"} for name in modalities},
            "fingerprint": files.digest([dataset, dims]),
        }
        files.write_json(layout.shards / "meta" / "info.json", info)
        files.write_json(layout.shards / "meta" / "stats.json", stats)
        return layout

    return make


@pytest.fixture
def keep_frames() -> Callable[..., Layout]:
    """Writes the frames that the vectors of shards were pooled from, one to nine each with the vector as their mean, as
    an extraction with frames does.
    """

    def keep(layout: Layout, dims: dict[str, int] | None = None) -> Layout:
        generator = np.random.default_rng(6)
        info = files.read_json(layout.shards / "meta" / "info.json")
        for name, encoder in info["encoders"].items():
            folder, dim = layout.features(name, encoder["name"]), (dims or info["dims"])[name]
            for number, path in enumerate(
                sorted((layout.shards / "dialogues").glob("*.parquet"), reverse=True)
            ):  # in a different order than the shards
                ids, kept = [], []
                for row in pq.read_table(path).to_pylist():
                    for utterance_id, vector, there in zip(
                        row["utterance_ids"], row[name], row[f"{name}_present"], strict=True
                    ):
                        noise = generator.normal(size=(int(generator.integers(1, 10)), dim))
                        vectors = (np.resize(vector, dim) + noise - noise.mean(axis=0)).astype(np.float16)
                        ids.append(utterance_id)
                        kept.append(EncodedSequence(vectors, np.zeros(0, np.float32)) if there else None)
                sequences.write(folder / f"part-{number:05d}.parquet", sequences.table(ids, kept, dim))
            encoder["fingerprint"] = files.digest([name, dim])
            files.write_json(folder / "record.json", {"fingerprint": encoder["fingerprint"]})
        files.write_json(layout.shards / "meta" / "info.json", info)
        return layout

    return keep


@pytest.fixture
def make_batch() -> Callable[..., DialogueBatch]:
    """A batch of random dialogues of the given lengths; ``pad_to`` adds padding, whose features are filled with
    ``padding``.
    """

    def make(
        lengths: Sequence[int],
        *,
        modalities: Sequence[str] = tuple(DIMS),
        pad_to: int = 0,
        padding: float = 0.0,
        seed: int = 0,
    ) -> DialogueBatch:
        generator = torch.Generator().manual_seed(seed)
        steps = max(*lengths, pad_to)
        mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
        drawn = [  # dialogue by dialogue, so that padding does not affect the draws
            {
                "labels": torch.randint(-1, 3, (length,), generator=generator),
                "speakers": torch.randint(0, 9, (length,), generator=generator),
                **{name: torch.randn(length, DIMS[name], generator=generator) for name in DIMS},
                **{f"{name}_present": torch.rand(length, generator=generator) > 0.2 for name in DIMS},
            }
            for length in lengths
        ]

        def padded(name: str, fill: float) -> torch.Tensor:
            tensors = [
                torch.nn.functional.pad(
                    one[name].float(), (0, 0) * (one[name].ndim - 1) + (0, steps - len(one[name])), value=fill
                )
                for one in drawn
            ]
            return torch.stack(tensors)

        present = {name: padded(f"{name}_present", 0.0).bool() for name in modalities}
        index = torch.arange(mask.numel()).reshape(mask.shape)
        return DialogueBatch(
            features={
                name: padded(name, padding).masked_fill(~present[name][..., None] & mask[..., None], 0.0)
                for name in modalities
            },
            modality_mask=present,
            utterance_mask=mask,
            speakers=padded("speakers", 0.0).long(),
            labels=padded("labels", -1.0).long(),
            lengths=torch.tensor(lengths),
            dialogue_index=torch.arange(len(lengths)),
            utterance_index=index.masked_fill(~mask, -1),
            dialogue_ids=tuple(f"train/dia{number}" for number in range(len(lengths))),
        )

    return make


@pytest.fixture
def make_split() -> Callable[..., DialogueSplit]:
    """A train split of dialogues given by their labels, with random vectors; keywords ``scenarios``, ``speakers`` (per
    dialogue), ``modalities``, ``seed``.
    """

    def make(
        emotions: Sequence[Sequence[int]],
        *,
        scenarios: Sequence[str] | None = None,
        speakers: Sequence[Sequence[int]] | None = None,
        modalities: Sequence[str] = tuple(DIMS),
        seed: int = 0,
    ) -> DialogueSplit:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor([len(dialogue) for dialogue in emotions])
        count = int(lengths.sum())
        real = torch.arange(count + 1) < count
        present = {name: (torch.rand(count + 1, generator=generator) > 0.2) & real for name in modalities}
        return DialogueSplit(
            name="train",
            features={
                name: torch.randn(count + 1, DIMS[name], generator=generator).masked_fill(~present[name][:, None], 0.0)
                for name in modalities
            },
            present=present,
            labels=torch.tensor([label for dialogue in emotions for label in dialogue] + [-1]),
            speakers=torch.tensor(
                [speaker for dialogue in speakers or [[0] * len(one) for one in emotions] for speaker in dialogue] + [0]
            ),
            identities=torch.zeros(count + 1, dtype=torch.long),
            starts=lengths.cumsum(0) - lengths,
            lengths=lengths,
            dialogue_ids=tuple(f"train/dia{number}" for number in range(len(emotions))),
            scenario_ids=None if scenarios is None else tuple(scenarios),
            utterance_ids=tuple(f"train/utt{number}" for number in range(count)),
        )

    return make


@dataclass(frozen=True)
class Step:
    """One step of one phase of a training.

    Attributes:
        terms: name → value of the loss.
        trained: the names of the weights that the phase trains; those of losses start with the loss's and the branch's.
        moved: the names of all weights that the step changed.
        broken: the names of all weights that are not finite after it.
    """

    terms: dict[str, float]
    trained: set[str]
    moved: set[str]
    broken: set[str]


STEP_EMOTIONS = [
    [0, 1, 1, 2, 0],
    [2, 1, 1, 2],
    [0, -1, 1],
    [1],
    [1, 1, 2, 0, 1, 1],
    [2, 0, 0, 1, 1, -1, 2, 2, 0, 1],
] * 3  # more than a curriculum has buckets
MANY_WEIGHTS = 300_000
SMALL_UNITS = 48  # a multiple of all numbers of heads


@pytest.fixture
def one_step(make_split: Callable[..., DialogueSplit]) -> Callable[..., list[Step]]:
    """Trains one step of every phase of a shipped recipe; integers in the settings of large models are reduced.
    Keywords: ``emotions``, a label per utterance of each dialogue; ``absent``, a modality that no utterance has.
    """

    def take(name: str, *, emotions: Sequence[Sequence[int]] = STEP_EMOTIONS, absent: str = "") -> list[Step]:
        resolved = resolve(Params({}), name)
        speakers = [[step % 2 for step in range(len(one))] for one in emotions]
        split = make_split(emotions, modalities=resolved.recipe.modalities, speakers=speakers)
        if absent:
            split.present[absent].zero_()
            split.features[absent].zero_()
        if resolved.model.longest_sequence(resolved.model_config) is not None:
            split = replace(split, sequences={modality: _entries(split, modality) for modality in split.features})
        if resolved.recipe.neighbours is not None:
            split = replace(split, **_neighbours(len(split.dialogue_ids)))
        with torch.device("meta"):
            large = (
                sum(weight.numel() for weight in resolved.build(split.dims, len(CLASSES)).parameters()) > MANY_WEIGHTS
            )
        if large:
            small = {
                key: min(value, SMALL_UNITS) if type(value) is int else value
                for key, value in resolved.model_config.model_dump().items()
            }
            resolved = replace(resolved, model_config=type(resolved.model_config)(**small))
        torch.manual_seed(0)
        model = resolved.build(split.dims, len(CLASSES))
        return [_step(phase, model, split) for phase in resolved.phases]

    return take


def _step(phase: ResolvedPhase, model: MERCModel, split: DialogueSplit) -> Step:
    training = _Training(phase, model, split, CLASSES, 0, torch.device("cpu"))
    weights = list(model.named_parameters())
    for view, losses in zip(training.views, training.losses, strict=True):
        for term, loss in zip(phase.losses, losses, strict=True):
            weights += [(f"{term.name} of {view.named}: {key}", weight) for key, weight in loss.named_parameters()]
    before = [weight.detach().clone() for _, weight in weights]
    for view, losses in zip(training.views, training.losses, strict=True):
        for loss in losses:
            loss.begin_epoch(0, view, training.generator)
    terms_L = training.step(collate(split, torch.arange(len(split.dialogue_ids) - 2)), 1)
    return Step(
        terms=dict(zip((term.name for term in phase.losses), terms_L.tolist(), strict=True)),
        trained={key for key, weight in weights if weight.requires_grad},
        moved={key for (key, weight), old in zip(weights, before, strict=True) if not torch.equal(weight, old)},
        broken={key for key, weight in weights if not weight.isfinite().all()},
    )


def _entries(split: DialogueSplit, modality: str) -> Sequences:
    """One to three entries below every present vector."""
    counts = split.present[modality].long() * (1 + torch.arange(len(split.present[modality])) % 3)
    values = torch.randn(1 + int(counts.sum()), split.dims[modality], generator=torch.Generator().manual_seed(0))
    return Sequences(values.half(), (1 + counts.cumsum(0) - counts) * (counts > 0), counts)


def _neighbours(dialogues: int) -> dict[str, torch.Tensor]:
    """For every dialogue the ten after it, less similar the further away."""
    places = (torch.arange(dialogues)[:, None] + torch.arange(1, 11)) % dialogues
    return {"neighbours": places, "neighbour_similarity": (1 / torch.arange(2.0, 12.0)).expand(dialogues, 10)}
