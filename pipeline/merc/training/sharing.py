"""Pushes trained models to the Hugging Face hub and pulls them: weights as safetensors, scores, and a card; no
predictions, which contain a corpus's labels.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from merc import exchange, files
from merc.errors import BadTable, RawDataMissing
from merc.shards.target import Kind, new_shards
from merc.shown import markdown, visible
from merc.training.loop import checkpoint

_RESULTS = "results.json"
_CARD = "README.md"
_RECORDS = (_RESULTS, "metrics.json", "history.csv", "confusion.csv")
_MODEL = re.compile(r"models/seed-[0-9]{1,9}/model\.safetensors")
_MODELS = Kind("trained models", _RESULTS)


class _Score(BaseModel):
    model_config = ConfigDict(extra="allow")

    weighted_f1: float | None


class Results(BaseModel):
    """The keys that the card is written from; further keys are kept."""

    model_config = ConfigDict(extra="allow")

    dataset: str
    label_set: str
    recipe: str
    model: str
    modalities: list[str]
    encoders: dict[str, str]
    classes: list[str]
    selection: str
    mean: dict[str, _Score]
    std: dict[str, _Score]


def is_ours(name: str) -> bool:
    """Whether a name, relative to the run, is that of a shared file of a run.

    >>> [is_ours(name) for name in ("models/seed-0/model.safetensors", "predictions.parquet", "models/seed-0/model.pt")]
    [True, False, False]
    """
    return name in (_CARD, *_RECORDS) or _MODEL.fullmatch(name) is not None


def results_of(run: Path) -> dict[str, Any]:
    """The results of a finished run.

    Raises:
        RawDataMissing: if there are none.
        BadTable: if the file is something else.
    """
    if not (run / _RESULTS).is_file():
        raise RawDataMissing(
            f"{run}: not a finished run, there is no {_RESULTS} in it; name a folder made by merc-train, such as"
            " runs/meld/baseline"
        )
    found: dict[str, Any] = files.read_record(run / _RESULTS, Results, "the results of a run")
    return found


def push(run: Path, repository: exchange.Repository, *, private: bool | None) -> exchange.Exchanged:
    """Pushes the models of a finished run, with its scores and a card.

    Args:
        run: ``runs/<dataset>/<recipe>``; its predictions are not pushed.
        repository: repository on the hub.
        private: see :func:`merc.exchange.push`.

    Raises:
        RawDataMissing, BadTable: if there is no finished run, or one of its models cannot be read.
        BadSettings, HubRefuses: as :func:`merc.exchange.push`.
    """
    results = results_of(run)
    models = _checked(run)
    content: dict[str, Path | bytes] = {
        path.relative_to(run).as_posix(): path
        for path in [*models, *(run / name for name in _RECORDS)]
        if path.is_file()
    }
    content[_CARD] = card(results, repository.name, [path.relative_to(run).as_posix() for path in models]).encode()
    message = f"{results['recipe']}, trained on {results['dataset']} by merc-pipeline"
    return exchange.push(repository, content, is_ours, message, private=private, never_public=False)


def pull(
    repository: exchange.Repository, target: Path, revision: str | None, *, overwrite: bool, wait: bool
) -> tuple[exchange.Exchanged, list[Path]]:
    """Downloads the models of a run, builds each from its file, and moves them into place.

    Args:
        repository: repository on the hub.
        target: final path; the part of an interrupted download is kept next to it.
        revision: a branch, tag or commit; None: the newest.
        overwrite: replace previously pulled models.
        wait: wait for another process that writes there.

    Returns:
        What was pulled, and the files of the models.

    Raises:
        BadTable: if the repository contains no such models, or one that cannot be built; ``target`` is not changed
            then.
        BadSettings: if the class of a model is not installed here, or as :func:`merc.exchange.pull`.
        CannotWrite, HubRefuses: as :func:`merc.exchange.pull`.
        SettingsDiffer: if something is at ``target``.
    """
    with new_shards(target, [], overwrite=overwrite, wait=wait, kind=_MODELS) as scratch:
        found = exchange.pull(repository, revision, is_ours, scratch, target)
        try:
            results_of(scratch)
            models = _checked(scratch)
        except (BadTable, RawDataMissing) as error:
            told = str(error).replace(f"{scratch}/", "").removeprefix(f"{scratch}: ")
            raise BadTable(f"{repository.name} at {found.commit}: {told}. Nothing was put at {target}") from error
    return found, [target / path.relative_to(scratch) for path in models]


def _checked(run: Path) -> list[Path]:
    """The models of a run by name, after building each of them. Raises ``BadTable`` if one cannot be built, or there
    are none.
    """
    models = sorted(
        path for path in (run / "models").glob("*/model.safetensors") if is_ours(path.relative_to(run).as_posix())
    )
    if not models:
        raise BadTable(f"{run}: there is no models/seed-<n>/model.safetensors")
    for path in models:
        checkpoint.load(path)
    return models


def card(results: Mapping[str, Any], name: str, models: list[str]) -> str:
    """The model card: what the models were trained on, how good they are, how to use them.

    Args:
        results: result of :func:`results_of`. name: name of the repository. models: names of the weights in it.
    """
    matter = yaml.safe_dump(
        {"library_name": "merc-pipeline", "tags": ["emotion-recognition", "conversation"]}, sort_keys=False
    )
    scores = "\n".join(f"| {split} | {_score(results, split)} |" for split in results["mean"])
    encoders = ", ".join(
        f"{markdown(modality)} by *{markdown(results['encoders'].get(modality, '?'))}*"
        for modality in results["modalities"]
    )
    return visible(
        f"---\n{matter}---\n\n# {markdown(results['recipe'])}, trained on {markdown(results['dataset'])}\n\nThe model"
        f" *{markdown(results['model'])}* of merc-pipeline, {len(models)} seeds. It labels each utterance of a"
        f" dialogue with one of {', '.join(f'*{markdown(one)}*' for one in results['classes'])} (label set"
        f" *{markdown(results['label_set'])}*). Vectors: {encoders}.\n\nIt was trained on a corpus with its own"
        " licence, which says what it may be used for.\n\nWeighted F1 in per cent, mean ± standard deviation over"
        f" seeds; each seed's epoch: {markdown(results['selection'])}.\n\n| split | weighted F1 |\n| --- | ---:"
        f" |\n{scores}\n\n```sh\nmerc-train pull {name} model\nmerc-train --predict model/{models[0]} --shards"
        " SHARDS\n```\n"
    )


def _score(results: Mapping[str, Any], split: str) -> str:
    mean, std = (results[key].get(split, {}).get("weighted_f1") for key in ("mean", "std"))
    return f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")
