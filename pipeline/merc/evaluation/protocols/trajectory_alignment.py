"""Whether training brings dialogues with similar emotion trajectories together
(:mod:`merc.evaluation.engine.alignment`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from merc.evaluation.engine.alignment import (
    alignment_at_k,
    cosines,
    length_nearness,
    like_length,
    representational_similarity,
)
from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.data.dataset import DialogueSplit
from merc.training.loop.trainer import outputs
from merc.training.models.engine.base import FUSION, MERCOutput
from merc.trajectories.config import Config as TrajectoriesConfig
from merc.trajectories.controls import order_excess
from merc.trajectories.trajectory import labelled

Matrix = NDArray[np.float64]
_SCORES = ("ta", "found", "random", "oracle", "rsa", "rsa_given_length")
_ROWS = pa.schema(
    [
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("similarity", "control", "features", "training")),
        *((name, pa.float64()) for name in _SCORES),
    ]
)


class TrajectoryAlignment(Protocol):
    """Trajectory alignment on test: similarity → control → features → ``before`` and ``after`` training → TA@K (``ta``)
    and RSA, over the seeds.

    Features are those of a modality, averaged over the dialogue: the vectors that the model gets, and the output of its
    extractor; ``fusion`` stands for all vectors side by side, and the input of the classifier. Controls: ``raw``;
    ``order_excess``, what the order of the emotions adds to their counts; ``other_scenario``, without pairs from one
    script or task, if the corpus names them; ``like_length``, only with neighbours of similar length. ``length_alone``
    has similarity → control → the scores of neighbours chosen only by their length.
    """

    VERSION = 2

    class Config(Settings):
        """Settings of trajectory alignment."""

        k: int = Field(default=10, ge=1)
        """K, neighbours of a dialogue."""
        similarities: tuple[Literal["histogram", "transition", "edit", "path", "dtw"], ...] = Field(
            default=("path", "edit"), min_length=1
        )
        """Similarities of trajectories (:mod:`merc.trajectories.similarity`)."""
        path_bins: int = Field(default=8, ge=1, le=512)
        """Bins to which trajectories are stretched for ``path`` and ``dtw``."""
        order_permutations: int = Field(default=50, ge=1)
        """Shuffles of the labels behind ``order_excess``."""
        order_seed: int = Field(default=0, ge=0)
        """Seed of these shuffles."""
        like_length_share: float = Field(default=0.8, gt=0, le=1)
        """Two dialogues are of similar length if the shorter has at least this share of the longer's utterances."""
        most_dialogues: int = Field(default=1500, ge=2)
        """Maximum number of dialogues to compare, the first of the split; all pairs are compared."""

    def evaluate(self, run: Run) -> Found:
        """Compares the test dialogues that have a label."""
        split = run.raw_split("test")
        trajectories = [labelled(own) for own in _by_dialogue(split.labels_cpu[:-1].numpy().astype(np.int16), split)]
        kept = np.flatnonzero([len(one) > 0 for one in trajectories])[: self.config.most_dialogues]
        targets = dict(self._targets([trajectories[place] for place in kept], run.classes))
        compare = partial(self._compared, targets, self._allowed(split, kept), split.lengths.numpy()[kept])
        rows = [row for one in run.models() for row in _rows(one, kept, compare)]
        found = {
            seed: _tree([row for row in rows if row["seed"] == seed], ("similarity", "control", "features", "training"))
            for seed in run.seeds
        }
        alone = _tree(list(compare(length_nearness(split.lengths.numpy()[kept]))), ("similarity", "control"))
        facts = {"split": "test", "k": self.config.k, "dialogues": len(kept), "length_alone": alone}
        return Found(scores={**facts, **over_seeds(found)}, tables={"scores": pa.Table.from_pylist(rows, schema=_ROWS)})

    def _targets(
        self, trajectories: Sequence[NDArray[np.int16]], classes: Sequence[str]
    ) -> Iterator[tuple[tuple[str, str], Matrix]]:
        """(similarity, ``raw`` or ``order_excess``) → [N, N]."""
        pairs = np.triu_indices(len(trajectories), 1)
        for name in self.config.similarities:
            similarity = TrajectoriesConfig(path_bins=self.config.path_bins).similarity(name, classes)
            yield (name, "raw"), similarity.matrix(trajectories, len(classes))
            shuffles = {"permutations": self.config.order_permutations, "seed": self.config.order_seed}
            excess = np.zeros((len(trajectories), len(trajectories)))
            excess[pairs] = order_excess(trajectories, len(classes), similarity, pairs, **shuffles)
            yield (name, "order_excess"), excess + excess.T

    def _compared(
        self,
        targets: Mapping[tuple[str, str], Matrix],
        controls: Mapping[str, NDArray[np.bool_]],
        sizes: NDArray[np.int64],
        near: Matrix,
    ) -> Iterator[dict[str, Any]]:
        """Similarity and control, and the scores of one nearness matrix [N, N] for them."""
        for (similarity, kind), target in targets.items():
            for control, allowed in controls.items():
                if control == "raw" or kind == "raw":
                    scores = {
                        **alignment_at_k(near, target, allowed, self.config.k),
                        **representational_similarity(near, target, allowed, sizes),
                    }
                    yield {"similarity": similarity, "control": kind if control == "raw" else control, **scores}

    def _allowed(self, split: DialogueSplit, kept: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Control → bool [N, N]: which pairs of the dialogues count."""
        different = ~np.eye(len(kept), dtype=np.bool_)
        controls = {
            "raw": different,
            "like_length": different & like_length(split.lengths.numpy()[kept], self.config.like_length_share),
        }
        if split.scenario_ids is not None:
            scenarios = np.array(split.scenario_ids, dtype=object)[kept]
            controls["other_scenario"] = different & ~((scenarios[:, None] == scenarios) & (scenarios != ""))
        return controls


def _rows(
    one: SeedModel, kept: NDArray[np.int64], compare: Callable[[Matrix], Iterator[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    split = one.split("test")
    for training, features in (("before", _before(split)), ("after", _after(one, split))):
        for name, means_KD in features.items():
            for row in compare(cosines(means_KD[kept])):
                yield {"seed": one.seed, "features": name, "training": training, **row}


def _by_dialogue(values: NDArray[Any], split: DialogueSplit) -> list[NDArray[Any]]:
    return np.split(values, split.starts.numpy()[1:])


def _before(split: DialogueSplit) -> dict[str, Matrix]:
    """Modality → [K, D], mean vectors over the utterances that have it; ``fusion``: all side by side, each modality
    with the same weight.
    """
    found = {}
    for name, values_ND in split.features.items():
        there_N = split.present[name][:-1].cpu().numpy()
        sums = np.add.reduceat(
            values_ND[:-1].cpu().numpy().astype(np.float64), split.starts.numpy(), axis=0
        )  # zeros where absent
        found[name] = sums / np.maximum(np.add.reduceat(there_N.astype(np.int64), split.starts.numpy()), 1)[:, None]
    return found | {
        FUSION: np.concatenate([means_KD / np.sqrt(means_KD.shape[1]) for means_KD in found.values()], axis=1)
    }


def _after(one: SeedModel, split: DialogueSplit) -> dict[str, Matrix]:
    """The same for the model's representations, over all utterances."""

    def representations(output: MERCOutput) -> dict[str, Any]:
        return {**output.unimodal, FUSION: output.hidden}

    counts = split.lengths.numpy()[:, None]
    made = outputs(one.model, split, representations)
    return {
        name: np.add.reduceat(values_ND.numpy().astype(np.float64), split.starts.numpy(), axis=0) / counts
        for name, values_ND in made.items()
    }


def _tree(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """The scores of the rows, in nested mappings by the rows' values under the keys."""
    found: dict[str, Any] = {}
    for row in rows:
        place = found
        for key in keys:
            place = place.setdefault(row[key], {})
        place |= {name: row[name] for name in _SCORES}
    return found
