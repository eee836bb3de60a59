"""A finished run as evaluations see it: what it recorded, what it predicted, its models, and their input."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from merc import files, parquet
from merc.encoders.engine.adapted import FROZEN
from merc.errors import BadTable, RawDataMissing, nearest
from merc.job import RECORD, Record, finished_fingerprint
from merc.layout import Layout
from merc.records.features import vectors_type
from merc.shards.format import reader
from merc.training.data.dataset import DialogueSplit, read_split
from merc.training.data.splits import with_sequences
from merc.training.loop import checkpoint, results
from merc.training.models.engine.base import MERCModel

RESULTS = "results.json"
PREDICTIONS = "predictions.parquet"


class Facts(BaseModel):
    """The part of ``results.json`` that evaluations read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dataset: str
    recipe: str
    label_set: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    encoders: dict[str, str]
    causal: bool
    tag: str = FROZEN
    seeds: dict[int, object]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The predictions of a run's seeds for a split. Legend: S seeds, N utterances, K dialogues, C classes.

    Attributes:
        seeds: S.
        utterance_ids: N, in the order of the shards.
        dialogue_ids: K.
        lengths: [K], number of utterances of each dialogue. labels: [N], -1 = unlabelled.
        probabilities: float32 [S, N, C].
    """

    seeds: tuple[int, ...]
    utterance_ids: tuple[str, ...]
    dialogue_ids: tuple[str, ...]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def classes(self) -> NDArray[np.int64]:
        """[S, N], the class predicted by each seed."""
        said: NDArray[np.int64] = self.probabilities.argmax(axis=2)
        return said

    def of(self, seed: int) -> NDArray[np.float32]:
        """[N, C], a seed's probabilities."""
        chosen: NDArray[np.float32] = self.probabilities[self.seeds.index(seed)]
        return chosen


@dataclass(frozen=True)
class SeedModel:
    """A seed's model, in eval mode on the run's device, and its input."""

    seed: int
    loaded: checkpoint.Loaded
    run: "Run"

    @property
    def model(self) -> MERCModel:
        return self.loaded.model

    def split(self, name: str) -> DialogueSplit:
        """A split of the run's shards, standardised as in the training and on the run's device. Raises as
        :meth:`Run.raw_split`.
        """
        return self.ready(self.run.raw_split(name))

    def ready(self, raw: DialogueSplit) -> DialogueSplit:
        """The same for a split from :meth:`Run.raw_split`, possibly with other vectors, which is not modified."""
        read = self.loaded.standardisation.apply_(
            replace(raw, features={modality: values_ND.clone() for modality, values_ND in raw.features.items()})
        )
        shards = self.run.layout.shards
        return with_sequences(read, shards, reader.info(shards), self.loaded.longest_sequence).to(self.run.device)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    Attributes:
        folder: ``runs/<dataset>/<recipe>``.
        layout: layout of the dataset that it was trained on. facts: facts in its results. fingerprint: fingerprint of
            the training.
        shards: fingerprint of the shards that it was trained on.
        device: device of its models.
    """

    folder: Path
    layout: Layout
    facts: Facts
    fingerprint: str
    shards: str
    device: str = "cpu"

    @classmethod
    def read(cls, folder: Path, layout: Layout, device: str = "cpu") -> "Run":
        """Reads the records of a run.

        Raises:
            BadTable: if a file is missing, or was not written by a training.
        """
        made_of = files.read_record(folder / RECORD, Record, "the record of a training")
        facts = Facts.model_validate(files.read_record(folder / RESULTS, Facts, "the results of a run"))
        if (facts.dataset, facts.recipe) != (layout.dataset, folder.name):
            raise BadTable(
                f"{folder / RESULTS}: of {facts.recipe} on {facts.dataset}, not of {folder.name} on {layout.dataset},"
                " as its folder is called"
            )
        if not facts.seeds or "shards" not in made_of["inputs"]:
            raise BadTable(
                f"{folder}: names no seed, or not the shards that it was trained on; retrain it with --overwrite"
            )
        return cls(
            folder=folder,
            layout=layout,
            facts=facts,
            fingerprint=made_of["fingerprint"],
            shards=made_of["inputs"]["shards"],
            device=device,
        )

    def __str__(self) -> str:
        return f"{self.facts.recipe} on {self.facts.dataset}"

    @property
    def recipe(self) -> str:
        return self.facts.recipe

    @property
    def classes(self) -> tuple[str, ...]:
        return self.facts.classes

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.facts.seeds)

    @cached_property
    def _raw_splits(self) -> dict[str, DialogueSplit]:
        return {}

    def raw_split(self, name: str) -> DialogueSplit:
        """An unprocessed split of the shards that the run was trained on; read once.

        Raises:
            BadTable: if the shards have been rebuilt since, or are damaged.
            RawDataMissing: if there are none.
        """
        if name not in self._raw_splits:
            info = reader.info_of(self.layout)
            if info["fingerprint"] != self.shards:
                raise BadTable(
                    f"{self.layout.shards}: remade since {self} was trained; retrain it:\n  merc-train {self._named}"
                    " --overwrite"
                )
            self._raw_splits[name] = read_split(self.layout.shards, name, self.facts.modalities, len(self.classes))
        return self._raw_splits[name]

    def predictions(self, split: str) -> Predicted:
        """The predictions of all seeds for ``dev`` or ``test``; needs no shards.

        Raises:
            BadTable: if there are none, or not from all seeds for the same utterances.
        """
        path = self.folder / PREDICTIONS
        if not path.is_file():
            raise BadTable(
                f"{path}: no such file, and {self} cannot be compared without its predictions; retrain it:\n"
                f"  merc-train {self._named}"
            )
        table = parquet.read(
            path,
            [field.name for field in results.predictions_schema(len(self.classes))],
            filters=pc.field("split") == split,
        )
        seeds = table["seed"].to_numpy()
        ids = np.array(table["utterance_id"].to_pylist(), dtype=object)
        first = ids[seeds == self.seeds[0]]
        if (
            not len(first)
            or any(ids[seeds == seed].tolist() != first.tolist() for seed in self.seeds)
            or len(ids) != len(first) * len(self.seeds)
        ):
            raise BadTable(
                f"{path}: not one row for each of the seeds {', '.join(map(str, self.seeds))} and each utterance of the"
                f" split {split}"
            )
        width = table.schema.field("probabilities").type
        if width != vectors_type(len(self.classes)):
            raise BadTable(f"{path}: probabilities are {width}, and {RESULTS} names {len(self.classes)} classes")
        probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        own = np.array(table["dialogue_id"].to_pylist(), dtype=object)[seeds == self.seeds[0]]
        begins = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
        return Predicted(
            seeds=self.seeds,
            utterance_ids=tuple(first),
            dialogue_ids=tuple(own[begins]),
            lengths=np.diff(begins, append=len(own)),
            labels=table["label"].to_numpy()[seeds == self.seeds[0]],
            probabilities=np.stack([probabilities[seeds == seed] for seed in self.seeds]),
        )

    def models(self) -> Iterator[SeedModel]:
        """Each seed's model, one in memory at a time. Raises ``BadTable`` if one is missing, damaged, or was trained on
        other classes.
        """
        for seed in self.seeds:
            path = results.weights(self.folder, seed)
            loaded = checkpoint.load(path)
            if loaded.header.classes != self.classes:
                raise BadTable(
                    f"{path}: of the classes {', '.join(loaded.header.classes)}, and {RESULTS} names"
                    f" {', '.join(self.classes)}"
                )
            loaded.model.to(self.device)
            yield SeedModel(seed, loaded, self)

    def check_there(self) -> None:
        """Raises ``BadTable`` if the run has been removed or retrained since it was read."""
        if not (self.folder / RECORD).is_file() or finished_fingerprint(self.folder) != self.fingerprint:
            raise BadTable(f"{self.folder}: removed or retrained while it was evaluated; run the evaluation again")

    @property
    def _named(self) -> str:
        return f"--dataset {self.facts.dataset} --recipe {self.facts.recipe}"


def finished(runs: Path, dataset: str) -> list[str]:
    """The recipes of a dataset that have results, by name."""
    return sorted(path.parent.name for path in (runs / dataset).glob(f"*/{RESULTS}"))


def chosen(runs: Path, dataset: str, recipes: tuple[str, ...] = ()) -> list[str]:
    """The given recipes, or all finished ones.

    Raises:
        RawDataMissing: if there is no run, or a given one is missing.
    """
    there = finished(runs, dataset)
    if not there:
        raise RawDataMissing(
            f"{runs} has no finished run on {dataset!r}; this makes one:\n  merc-train --dataset {dataset} --recipe"
            " NAME"
        )
    for name in recipes:
        if name not in there:
            raise RawDataMissing(f"{runs / dataset} has no finished run of {name!r}; {nearest(name, there)}")
    return list(dict.fromkeys(recipes)) or there
