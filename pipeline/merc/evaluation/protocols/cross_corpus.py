"""A run's models on the test split of another corpus, over the emotions that both have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings, BadTable
from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.layout import Layout
from merc.params import Settings
from merc.shards.format import reader
from merc.training.data.batch import UNLABELLED
from merc.training.data.dataset import DialogueSplit, read_split
from merc.training.data.splits import with_sequences
from merc.training.loop.prediction import check_features
from merc.training.loop.trainer import predict
from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.macro_f1 import macro_f1
from merc.training.metrics.weighted_f1 import weighted_f1

_SAME = {
    "happy": "joy", "happiness": "joy", "joyful": "joy",
    "sad": "sadness",
    "angry": "anger", "mad": "anger",
    "scared": "fear",
}  # fmt: skip


class CrossCorpus(Protocol):
    """Cross-corpus scores: dataset → the ``shared`` emotions, the number of utterances with one of them (``support``),
    and the scores on these over the seeds.

    The run's own test split is included, so that the two can be compared. Features are standardised as in the
    training.
    """

    class Config(Settings):
        """Settings of cross-corpus scores."""

        datasets: tuple[str, ...] = ()
        """Datasets to score, whose shards must have vectors of the same encoders; none: the protocol is left out."""
        same: dict[str, str] = _SAME
        """Label → the emotion that it stands for; a label not named here stands for itself. Labels of one emotion are
        merged.
        """
        shared_only: bool = True
        """Whether the model chooses only among the shared emotions; if not, any other prediction is wrong."""

    def lacks(self, run: Run) -> str:
        return (
            ""
            if set(self.config.datasets) - {run.facts.dataset}
            else "evaluation.cross_corpus.datasets names no other dataset"
        )

    def inputs(self, run: Run) -> dict[str, Any]:
        """The fingerprints of the other datasets' shards."""
        return {name: reader.info_of(layout)["fingerprint"] for name, layout in self._others(run).items()}

    def evaluate(self, run: Run) -> Found:
        """Scores each of the datasets, and the run's own test split over the same emotions.

        Raises:
            BadSettings: if the shards lack a modality, or their vectors have another encoder or length, or no emotion
                is shared.
            RawDataMissing: if a dataset has no shards.
            BadTable: if they lack a test split or are damaged.
        """
        others = self._others(run)
        shared = {
            name: self._shared(run.classes, reader.info_of(layout)["classes"], name) for name, layout in others.items()
        }
        there: dict[str, dict[int, Any]] = {name: {} for name in others}
        here: dict[str, dict[int, Any]] = {name: {} for name in others}
        for one in run.models():
            for name, layout in others.items():
                there[name][one.seed] = self._scored(
                    one, _split(one, layout), reader.info_of(layout)["classes"], shared[name]
                )
                here[name][one.seed] = self._scored(one, one.split("test"), run.classes, shared[name])
        found = {
            name: {"shared": shared[name], "there": _summary(there[name]), "own_test": _summary(here[name])}
            for name in others
        }
        return Found(scores={"split": "test", "trained_on": run.facts.dataset, "datasets": found})

    def _others(self, run: Run) -> dict[str, Layout]:
        names = [name for name in self.config.datasets if name != run.facts.dataset]
        return {name: Layout(run.layout.raw, run.layout.out, name) for name in names}

    def _emotions(self, classes: Sequence[str]) -> list[str]:
        same: Mapping[str, str] = self.config.same
        return [same.get(one, one) for one in classes]

    def _shared(self, classes: Sequence[str], others: Sequence[str], name: str) -> list[str]:
        there = set(self._emotions(others))
        shared = [one for one in dict.fromkeys(self._emotions(classes)) if one in there]
        if len(shared) < 2:
            both = f"{', '.join(classes)} and {', '.join(others)} of {name} share {', '.join(shared) or 'no emotion'}"
            raise BadSettings(
                f"evaluation.cross_corpus: {both}; say in evaluation.cross_corpus.same which labels are equivalent"
            )
        return shared

    def _scored(
        self, one: SeedModel, split: DialogueSplit, classes: Sequence[str], shared: Sequence[str]
    ) -> dict[str, Any]:
        places = [shared.index(name) if name in shared else UNLABELLED for name in self._emotions(classes)]
        labels = np.array([*places, UNLABELLED])[split.labels_cpu[:-1].numpy()]
        kept = labels != UNLABELLED
        if not kept.any():
            raise BadTable(
                f"no utterance of {split.name}, from {split.utterance_ids[0]} on, has one of the shared emotions"
                f" {', '.join(shared)}"
            )
        probabilities = predict(one.model, split).softmax(dim=1).numpy()
        true, said = labels[kept], self._said(probabilities, self._emotions(one.loaded.header.classes), shared)[kept]
        count = len(shared)
        scores = {
            "weighted_f1": weighted_f1(true, said, count),
            "accuracy": accuracy(true, said),
            "macro_f1": macro_f1(true, said, count),
        }
        return {"support": len(true), "scores": scores}

    def _said(
        self, probabilities: NDArray[np.float32], emotions: Sequence[str], shared: Sequence[str]
    ) -> NDArray[np.int64]:
        """[N], index of the prediction among the shared emotions; their number if it is none of them."""
        every = [*shared, *dict.fromkeys(one for one in emotions if one not in shared)]
        sums = np.stack([probabilities[:, [name == one for name in emotions]].sum(axis=1) for one in every], axis=1)
        said: NDArray[np.int64] = np.minimum(
            sums[:, : len(shared) if self.config.shared_only else None].argmax(axis=1), len(shared)
        )
        return said


def _split(one: SeedModel, layout: Layout) -> DialogueSplit:
    """The test split of another dataset as input for the model."""
    info = reader.info_of(layout)
    check_features(one.loaded.header, info, layout.shards, force=False)
    read = one.loaded.standardisation.apply_(
        read_split(layout.shards, "test", list(one.loaded.header.dims), len(info["classes"]))
    )
    return with_sequences(read, layout.shards, info, one.loaded.longest_sequence).to(one.run.device)


def _summary(found: Mapping[int, Any]) -> dict[str, Any]:
    support = next(iter(found.values()))["support"]
    return {"support": support, **over_seeds({seed: one["scores"] for seed, one in found.items()})}
