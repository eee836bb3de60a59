"""How well the emotions are separated in the input of a run's classifier, as a number and as a map."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.preprocessing import normalize

from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run, SeedModel
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.data.dataset import DialogueSplit
from merc.training.loop.trainer import outputs

_POINTS = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),
        pa.field("y", pa.float32(), nullable=False),
    ]
)


class Representations(Protocol):
    """Representations on test: over the seeds the ``silhouette`` of the emotions, for all and ``by_emotion``;
    ``points.parquet`` has a map of the first seed.

    A representation is the classifier's input for an utterance, scaled to length one, as contrastive losses see it. The
    silhouette is 1 if each is much nearer to its own emotion than to any other, and below 0 in the opposite case
    (Rousseeuw 1987). The map is t-SNE's (van der Maaten and Hinton 2008): neighbourhoods in it are meaningful,
    distances and sizes of clusters are not.
    """

    class Config(Settings):
        """Settings of representations."""

        most_utterances: int = Field(default=1500, ge=4)
        """Maximum number of labelled utterances to use, spread evenly over the split."""
        perplexity: float = Field(default=30.0, ge=1)
        """Perplexity of t-SNE; at most a third of the utterances."""
        map_seed: int = Field(default=0, ge=0)
        """Seed of t-SNE."""

    def evaluate(self, run: Run) -> Found:
        """Runs each seed's model over the test split."""
        found: dict[int, dict[str, Any]] = {}
        points, facts = _POINTS.empty_table(), {"split": "test", "map_of_seed": run.seeds[0]}
        for one in run.models():
            split = one.split("test")
            places = self._places(split)
            labels = split.labels_cpu[places].numpy()
            vectors_ND = normalize(
                outputs(one.model, split, lambda output: {"hidden": output.hidden})["hidden"].numpy()[places]
            )
            found[one.seed] = _silhouette(vectors_ND, labels, run.classes)
            facts["utterances"] = len(places)
            if one.seed == run.seeds[0]:
                points = self._map(one, [split.utterance_ids[place] for place in places], labels, vectors_ND)
        return Found(scores={**facts, **over_seeds(found)}, tables={"points": points})

    def _places(self, split: DialogueSplit) -> NDArray[np.int64]:
        labelled = np.flatnonzero(split.labels_cpu[:-1].numpy() >= 0)
        wanted = min(len(labelled), self.config.most_utterances)
        chosen: NDArray[np.int64] = labelled[np.arange(wanted) * len(labelled) // max(wanted, 1)]
        return chosen

    def _map(
        self, one: SeedModel, ids: list[str], labels: NDArray[np.int64], vectors_ND: NDArray[np.float32]
    ) -> pa.Table:
        if len(ids) < 4:  # too few points for a map
            return _POINTS.empty_table()
        perplexity = min(self.config.perplexity, (len(ids) - 1) / 3)
        placed = TSNE(perplexity=perplexity, init="pca", random_state=self.config.map_seed).fit_transform(vectors_ND)
        columns = [np.full(len(ids), one.seed), ids, labels, placed[:, 0], placed[:, 1]]
        return pa.table(
            [pa.array(values, type=field.type) for values, field in zip(columns, _POINTS, strict=True)], schema=_POINTS
        )


def _silhouette(vectors_ND: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, Any]:
    """None if it is undefined: for an emotion that does not occur, or if there is only one."""
    there = np.unique(labels)
    if not 1 < len(there) < len(labels):
        return {"silhouette": None, "by_emotion": dict.fromkeys(classes)}
    each_N = silhouette_samples(vectors_ND, labels)
    return {
        "silhouette": float(each_N.mean()),
        "by_emotion": {
            name: float(each_N[labels == at].mean()) if at in there else None for at, name in enumerate(classes)
        },
    }
