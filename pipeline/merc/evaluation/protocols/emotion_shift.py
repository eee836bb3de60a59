"""Scores where a speaker's emotion shifts and where it stays, by both definitions of
:mod:`merc.training.metrics.emotion_shift`.
"""

from typing import Any

from merc.errors import BadTable
from merc.evaluation.engine.base import Found, Protocol
from merc.evaluation.engine.runs import Run
from merc.evaluation.engine.summary import over_seeds
from merc.params import Settings
from merc.training.metrics.emotion_shift import emotion_shift


class EmotionShift(Protocol):
    """Emotion shift: ``scores.json`` has ``support`` and, over the seeds, the scores of ``shift`` and ``no_shift`` by
    each definition.
    """

    class Config(Settings):
        """There are no settings: both definitions are reported."""

    def evaluate(self, run: Run) -> Found:
        """From the run's predictions on test, and who speaks from the shards."""
        said, split = run.predictions("test"), run.raw_split("test")
        if said.utterance_ids != split.utterance_ids:
            raise BadTable(f"{run.folder}: its predictions are not for the test utterances of {run.layout.shards}")
        speakers = split.speakers_cpu[:-1].numpy()
        found = {
            seed: emotion_shift(said.labels, predicted, speakers, said.lengths, len(run.classes))
            for seed, predicted in zip(said.seeds, said.classes, strict=True)
        }
        support = {
            name: {part: one["support"] for part, one in parts.items()} for name, parts in found[said.seeds[0]].items()
        }
        return Found(
            scores={
                "split": "test",
                "support": support,
                **over_seeds({seed: _without_support(one) for seed, one in found.items()}),
            }
        )


def _without_support(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    return {
        name: {part: {key: value for key, value in one.items() if key != "support"} for part, one in parts.items()}
        for name, parts in found.items()
    }
