"""The results of ``merc-evaluate`` for the runs of a dataset (:mod:`merc.evaluation.stage`): read, checked, and
arranged in columns.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from merc import files
from merc.errors import BadTable
from merc.job import RECORD, Record
from merc.layout import MODALITIES

SCORES = "scores.json"
SIGNIFICANCE = "significance"
_HALF = 0.5


@dataclass(frozen=True)
class Value:
    """A score over the seeds: mean, and standard deviation with denominator n - 1, None for one seed."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Block:
    """One evaluation of all recipes that have it.

    Attributes:
        protocol: its name, which is that of its folder.
        title: title. about: what is scored, in a sentence or two.
        percent: whether scores are shares, shown in per cent.
        columns: headings of the columns.
        rows: recipe → heading → value; some values may be missing.
    """

    protocol: str
    title: str
    about: str
    percent: bool
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Value]]


class Pair(BaseModel):
    """Two recipes compared on test (:mod:`merc.evaluation.comparisons.significance`); ``significant`` is None if no
    significance is claimed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    first: str
    second: str
    seeds: int
    difference: float | None
    p_holm: float | None
    low: float | None
    high: float | None
    significant: bool | None
    seeds_needed: int | None


class _Table(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    recipes: list[str]
    pairs: list[Pair]


class _Compared(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    tables: list[_Table]


@dataclass(frozen=True)
class Significance:
    """Which recipes differ.

    Attributes:
        pairs: all compared pairs.
        reference: the recipe that all others were compared with; None if all pairs were compared.
        level: significance level.
    """

    pairs: Sequence[Pair]
    reference: str | None
    level: float

    def with_one(self, recipe: str) -> dict[str, Pair]:
        """The other recipe → the pair, for those compared with ``recipe``."""
        found = {
            pair.second if pair.first == recipe else pair.first: pair
            for pair in self.pairs
            if recipe in (pair.first, pair.second)
        }
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of a dataset.

    Attributes:
        blocks: evaluations that at least one recipe has.
        significance: None if recipes have not been compared since they were trained.
        outdated: ``<recipe>/<protocol>`` or ``significance``, made from runs that have been retrained since, and not
            shown.
    """

    blocks: Sequence[Block] = ()
    significance: Significance | None = None
    outdated: Sequence[str] = ()


def read_evaluations(evaluations: Path, dataset: str, fingerprints: Mapping[str, str]) -> Evaluations:
    """Reads the evaluations of a dataset's runs.

    Args:
        evaluations: the folder of all evaluations; may be missing.
        dataset: name of the dataset.
        fingerprints: recipe → fingerprint of its training, for the recipes that are shown.

    Raises:
        BadTable: if a file was not written by an evaluation; the message names it.
    """
    outdated: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for recipe, fingerprint in fingerprints.items():
        for protocol in _PROTOCOLS:
            folder = evaluations / "runs" / dataset / recipe / protocol
            if not (folder / SCORES).is_file():
                continue
            if not is_of(folder, fingerprint):
                outdated.append(f"{recipe}/{protocol}")
            else:
                found.setdefault(protocol, {})[recipe] = folder / SCORES
    significance = _read_significance(evaluations / "comparisons" / dataset / SIGNIFICANCE, fingerprints, outdated)
    return Evaluations([_block(protocol, of_recipes) for protocol, of_recipes in found.items()], significance, outdated)


def is_of(folder: Path, fingerprint: str | None) -> bool:
    """Whether an existing evaluation belongs to the training with a fingerprint, rather than to an earlier one; never
    without a fingerprint.
    """
    record = files.read_record(folder / RECORD, Record, "the record of an evaluation")
    return fingerprint is not None and record["inputs"].get("run") == fingerprint


def _read_significance(folder: Path, fingerprints: Mapping[str, str], outdated: list[str]) -> Significance | None:
    if not (folder / SCORES).is_file():
        return None
    record = files.read_record(folder / RECORD, Record, "the record of a comparison")
    seen = record["inputs"].get("runs", {})
    compared = _Compared.model_validate(files.read_record(folder / SCORES, _Compared, "a comparison of recipes"))
    if any(seen.get(recipe) != fingerprints.get(recipe) for table in compared.tables for recipe in table.recipes):
        outdated.append(SIGNIFICANCE)
        return None
    settings = record["settings"].get("evaluation", {}).get(SIGNIFICANCE, {})
    return Significance(
        [pair for table in compared.tables for pair in table.pairs],
        settings.get("reference"),
        settings.get("level", 0.05),
    )


def _block(protocol: str, paths: Mapping[str, Path]) -> Block:
    """Raises ``BadTable`` if a file lacks what the evaluation writes."""
    kind = _PROTOCOLS[protocol]
    rows: dict[str, dict[str, Value]] = {}
    about = ""
    for recipe, path in paths.items():
        scores = files.read_json(path)
        try:
            about = kind.about(scores)
            rows[recipe] = dict(kind.values(scores))
        except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
            raise BadTable(
                f"{path}: not what {protocol} writes ({type(error).__name__}: {error}); run merc-evaluate with"
                " --overwrite"
            ) from error
    columns = list(dict.fromkeys(head for row in rows.values() for head in row))
    return Block(protocol, kind.title, about, kind.percent, columns, rows)


@dataclass(frozen=True)
class _Kind:
    """How the scores of a protocol are shown."""

    title: str
    about: Callable[[Any], str]
    values: Callable[[Any], Iterator[tuple[str, Value]]]
    percent: bool = True


def _of(scores: Any, *path: str) -> Value | None:
    """The mean and deviation of :func:`merc.evaluation.engine.summary.over_seeds` at a path; None if the score does not
    exist.
    """
    mean, std = scores["mean"], scores["std"]
    for key in path:
        mean, std = mean[key], std[key]
    return None if mean is None else Value(float(mean), None if std is None else float(std))


def _present(*named: tuple[str, Value | None]) -> Iterator[tuple[str, Value]]:
    yield from ((head, value) for head, value in named if value is not None)


def _shift(scores: Any) -> Iterator[tuple[str, Value]]:
    definitions = scores["support"]
    shown = ["transcript"] if definitions["transcript"] == definitions["labelled"] else ["transcript", "labelled"]
    for name in shown:
        of = " (labelled)" if name == "labelled" else ""
        yield from _present(
            (f"Shift{of}", _of(scores, name, "shift", "weighted_f1")),
            (f"No shift{of}", _of(scores, name, "no_shift", "weighted_f1")),
        )


def _about_shift(scores: Any) -> str:
    counts = scores["support"]["transcript"]
    told = (
        "Weighted F1 where a speaker's emotion differs from that of the speaker's previous utterance"
        f" ({counts['shift']:,} utterances)"
    )
    told += f" and where it is the same ({counts['no_shift']:,})."
    if scores["support"]["labelled"] != counts:
        labelled = scores["support"]["labelled"]
        told += (
            f" Labelled: utterances without a label are skipped ({labelled['shift']:,} and {labelled['no_shift']:,})."
        )
    return told


def _substitution(scores: Any) -> Iterator[tuple[str, Value]]:
    heads = {"raw": "As it is", "identity": "Itself", "eccs": "Same emotions (ECCS)", "eics": "Other emotions (EICS)"}
    return _present(*((heads[kind], _of(scores, kind, "weighted_f1")) for kind in _ordered(scores["mean"], heads)))


def _ordered(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """First those in ``order``, then the others; files have their keys sorted by name."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def _calibration(scores: Any) -> Iterator[tuple[str, Value]]:
    return _present(
        ("ECE", _of(scores, "raw", "expected_calibration_error")),
        ("ECE, tempered", _of(scores, "tempered", "expected_calibration_error")),
        ("Likelihood loss", _of(scores, "raw", "negative_log_likelihood")),
        ("Likelihood loss, tempered", _of(scores, "tempered", "negative_log_likelihood")),
        ("Temperature", _of(scores, "temperature")),
    )


def _oracle(scores: Any) -> Iterator[tuple[str, Value]]:
    return _present(
        *(
            (kind.capitalize(), _of(scores, kind, "weighted_f1"))
            for kind in _ordered(scores["mean"], ("fused", *MODALITIES, "oracle"))
        )
    )


def _robustness(scores: Any) -> Iterator[tuple[str, Value]]:
    sets = {dropped: dropped.split("+") for dropped in scores["mean"]}
    for dropped in sorted(sets, key=lambda one: (len(sets[one]), [MODALITIES.index(name) for name in sets[one]])):
        rates = scores["mean"][dropped]
        rate = min(rates, key=lambda one: (abs(float(one) - _HALF), float(one)))
        yield from _present(
            (f"{dropped.replace('+', ' + ')}, {100 * float(rate):g} %", _of(scores, dropped, rate, "weighted_f1"))
        )


def _heard(scores: Any) -> Iterator[tuple[str, Value]]:
    return _present(
        *(
            (head, _of(scores, name, "weighted_f1"))
            for name, head in (("written", "Official transcripts"), ("heard", "As heard"))
        )
    )


def _about_heard(scores: Any) -> str:
    told = "Weighted F1 on ASR transcripts instead of the corpus's transcripts"
    error = scores["mean_asr_error"]
    return f"{told}; its mean character error is {error:.2f}." if error is not None else f"{told}."


def _cross_corpus(scores: Any) -> Iterator[tuple[str, Value]]:
    for name, found in scores["datasets"].items():
        yield from _present(
            (f"Own test, emotions of {name}", _of(found["own_test"], "weighted_f1")),
            (f"Test of {name}", _of(found["there"], "weighted_f1")),
        )


def _alignment(scores: Any) -> Iterator[tuple[str, Value]]:
    for similarity, controls in scores["mean"].items():
        for control, name in _CONTROLS:
            there = [
                (training, _of(scores, similarity, control, "fusion", training, "ta"))
                for training in ("before", "after")
                if control in controls
            ]
            yield from _present(*((f"{similarity}{name}, {training}", value) for training, value in there))


_CONTROLS = (("raw", ""), ("order_excess", ", order"), ("like_length", ", like length"))
_PROTOCOLS = {
    "emotion_shift": _Kind("Emotion shift", _about_shift, _shift),
    "context_substitution": _Kind(
        "Context replaced",
        lambda scores: f"Weighted F1 with {scores['replaced']} replaced by utterances of other dialogues.",
        _substitution,
    ),
    "calibration": _Kind(
        "Calibration",
        lambda scores: (
            "Expected calibration error (0 to 1) and mean negative log-likelihood, before and after one temperature"
            " that is chosen on dev."
        ),
        _calibration,
        percent=False,
    ),
    "any_modality_oracle": _Kind(
        "Modalities alone, and their oracle",
        lambda scores: (
            f"Weighted F1 of all together and of each alone ({scores['source']}); the oracle is right wherever any"
            " modality is."
        ),
        _oracle,
    ),
    "robustness": _Kind(
        "Missing modalities",
        lambda scores: "Weighted F1 if this share of the test utterances that have the modality lose it.",
        _robustness,
    ),
    "asr_transcripts": _Kind("Speech recognised", _about_heard, _heard),
    "cross_corpus": _Kind(
        "Other corpora", lambda scores: "Weighted F1 over the emotions that both corpora have.", _cross_corpus
    ),
    "trajectory_alignment": _Kind(
        "Trajectory alignment",
        lambda scores: (
            f"TA@{scores['k']} before and after training: 0 if the nearest dialogues are no more similar than any"
            " others, 1 if they are the most similar; order: what the order of the emotions adds to their counts; like"
            " length: among dialogues of similar length alone."
        ),
        _alignment,
        percent=False,
    ),
}
