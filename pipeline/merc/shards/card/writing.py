"""The dataset card, ``croissant.json`` and the checksums: everything that readers with only this folder need to know.

Written last, for all existing tables. The card's ``configs`` name each table, since without them Hugging Face
``datasets`` mixes files with different columns; splits without rows are left out of them, because they cannot be
loaded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from merc import files, parquet
from merc.records.audit import PREFIX, QUALITY
from merc.records.dialogue import SPLITS
from merc.records.failures import REASONS
from merc.shards.card import croissant
from merc.shards.format import reader
from merc.shards.format.row_groups import TABLES
from merc.shown import code, markdown, visible

_ABOUT = {
    "dialogues": (
        "one row per dialogue: ids, speakers,{texts} emotions, times, and one vector per utterance and modality"
    ),
    "trajectories": (
        "one row per dialogue: its sequence of emotions, and the dialogues with similar emotion trajectories"
    ),
    "failures": "one row for everything that could not be used, or was cut or repaired",
}
# Printed in this order; anything else in an encoder's provenance is in meta/info.json.
_ENCODER_FACTS = ("name", "encoder", "tag", "revision", "layer", "pooling", "sample_rate_hz", "dim")
_WITH_TRANSCRIPTS = (
    "Do not redistribute this folder: it holds transcripts, which must not be passed on, and vectors made from the"
    " recordings, of a corpus with its own licence."
)
_WITHOUT_TRANSCRIPTS = (
    "Do not redistribute this folder without permission: the transcripts were left out, but the vectors were made from"
    " them and from the recordings, of a corpus with its own licence."
)


def write_card(root: Path) -> None:
    """Writes ``README.md``, ``croissant.json`` and ``meta/manifest.json`` of the shards in ``root``.

    Args:
        root: folder of the shards; ``trajectories/`` may be missing.

    Raises:
        BadTable: if ``root`` contains no shards.
    """
    info = reader.info(root)
    rows = {table: _rows_of(root / table) for table in TABLES}
    rows = {table: counts for table, counts in rows.items() if counts}
    files.write_text(root / "README.md", visible(f"---\n{_front_matter(info, rows)}---\n\n{_body(root, info, rows)}"))
    found = _checksums(root)
    croissant.write_croissant(root, info, visible(_title(info)), f"{_made_by(info)} {rights(info)}", found)
    found |= {croissant.NAME: _facts(root / croissant.NAME)}
    files.write_json(root / "meta" / "manifest.json", {"files": found})


def _title(info: dict[str, Any]) -> str:
    return f"{info['corpus']}: utterance embeddings by dialogue"


def _made_by(info: dict[str, Any]) -> str:
    return (
        f"Made by merc-pipeline {markdown(info['versions']['merc-pipeline'])} from the corpus"
        f" *{markdown(info['corpus'])}*, label set *{markdown(info['label_set'])}*, schema version"
        f" {info['schema_version']}."
    )


def rights(info: Mapping[str, Any]) -> str:
    """The card's statement on whether shards may be redistributed.

    Args:
        info: of :func:`merc.shards.format.reader.info`; ``redistribution`` has the terms, if it may.
    """
    if terms := str(info.get("redistribution", "")):
        return f"This folder may be passed on: {markdown(terms)}"
    return _WITH_TRANSCRIPTS if info.get("transcripts", True) else _WITHOUT_TRANSCRIPTS


def _rows_of(folder: Path) -> dict[str, int]:
    """Split → number of rows, for the splits that have a file."""
    counts: dict[str, int] = {}
    for split in SPLITS:
        paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
        if paths:
            counts[split] = sum(parquet.rows(path) for path in paths)
    return counts


def _checksums(root: Path) -> dict[str, Any]:
    tables = sorted(path for table in TABLES for path in (root / table).glob("*.parquet"))
    records = [root / "meta" / "info.json", root / "meta" / "stats.json"]
    facts = {path.relative_to(root).as_posix(): _facts(path) for path in [*tables, *records]}
    for path in tables:
        facts[path.relative_to(root).as_posix()]["rows"] = parquet.rows(path)
    return facts


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": files.sha256(path), "bytes": path.stat().st_size}


def _front_matter(info: dict[str, Any], rows: dict[str, dict[str, int]]) -> str:
    configs: list[dict[str, Any]] = []
    for table, counts in rows.items():
        data_files = [
            {"split": split, "path": f"{table}/{split}-*.parquet"} for split, count in counts.items() if count
        ]
        if data_files:
            configs.append(
                {"config_name": table, **({"default": True} if table == TABLES[0] else {}), "data_files": data_files}
            )
    matter: dict[str, Any] = {
        "license": "other",
        "pretty_name": markdown(_title(info)),
        "tags": ["emotion-recognition", "conversation"],
    }
    return str(yaml.safe_dump({**matter, "configs": configs}, sort_keys=False, allow_unicode=True, width=1000))


def _body(root: Path, info: dict[str, Any], rows: dict[str, dict[str, int]]) -> str:
    sections = [
        f"# {markdown(_title(info))}",
        (
            f"{_made_by(info)} Everything that determines the content is in `meta/info.json`; `croissant.json`"
            " describes every column."
        ),
        f"**{rights(info)}**",
        "## How to load it",
        _loading(rows),
        "## Tables",
        _markdown(
            ["table", "content", *SPLITS],
            [
                [f"`{table}/`", _about(table, info), *(counts.get(split, 0) for split in SPLITS)]
                for table, counts in rows.items()
            ],
        ),
        (
            "An embedding is never null. Where a modality is missing, its vector is all zeros, `<modality>_present` is"
            " false and the failure table says why: use the flag, not the zeros. `emotion_index` is -1 for an emotion"
            " outside the label set. `meta/stats.json` holds mean and standard deviation of every feature, from the"
            " train split only."
        ),
        "## Counts",
        _counts(info),
        "## Coverage",
        _coverage(info),
        "## Encoders",
        _encoders(info),
        _encoder_notes(info),
        _faces(info.get("faces", {})),
        *_quality(info),
        *_selection(info),
        "## What could not be used, was cut or repaired",
        _failures(root, list(rows.get("failures", ()))),
        "## How to get the corpus",
        "\n\n".join(map(markdown, info.get("source", "").split("\n\n")))
        or "The reader of this corpus names no source.",
    ]
    if info.get("deviations"):
        sections += [
            "Not as expected (counts of the official distribution, settings, labels):",
            "\n".join(f"- {markdown(line)}" for line in info["deviations"]),
        ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def _loading(rows: dict[str, dict[str, int]]) -> str:
    others = "".join(
        f"\n{table} = load_dataset(folder, {table!r})"
        for table in rows
        if table != TABLES[0] and any(rows[table].values())
    )
    first = next(iter(rows.get(TABLES[0], {})), "*")
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f"dialogues = load_dataset(folder){others}\n```\n\n"
        f"or `pandas.read_parquet`, `polars.read_parquet`, DuckDB on `{TABLES[0]}/{first}-*.parquet`."
    )


def _markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with Markdown cells; numbers are right-aligned."""
    body = [list(row) for row in rows]
    numeric = [bool(body) and all(isinstance(row[column], int | float) for row in body) for column in range(len(head))]
    lines: list[list[object]] = [list(head), ["---:" if right else "---" for right in numeric], *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _counts(info: dict[str, Any]) -> str:
    splits, counts = info["splits"], info["counts"]
    lines: list[list[object]] = [
        [what, *(counts[split][what] for split in splits)] for what in ("dialogues", "utterances")
    ]
    lines += [[f"*{markdown(name)}*", *(counts[split]["labels"][name] for split in splits)] for name in info["classes"]]
    lines.append(["outside the label set", *(counts[split]["unlabelled"] for split in splits)])
    return _markdown(["", *splits], lines)


def _coverage(info: dict[str, Any]) -> str:
    lines = []
    for modality in info["modalities"]:
        cells = []
        for split in info["splits"]:
            present, total = info["counts"][split]["present"][modality], info["counts"][split]["utterances"]
            cells.append(f"{present} of {total} ({100 * present / total:.1f} %)" if total else "none")
        lines.append([modality, *cells])
    return _markdown(["utterances with", *info["splits"]], lines)


def _encoders(info: dict[str, Any]) -> str:
    keys = [key for key in _ENCODER_FACTS if any(key in facts for facts in info["encoders"].values())]
    return _markdown(
        ["column", *keys],
        [[modality, *(_cell(info["encoders"][modality].get(key)) for key in keys)] for modality in info["modalities"]],
    )


def _encoder_notes(info: dict[str, Any]) -> str:
    """Licence of each encoder, and whether its training data contain this corpus: results on data that an encoder has
    seen are contaminated.
    """
    lines = []
    for modality in info["modalities"]:
        facts = info["encoders"][modality]
        licence, overlap = (markdown(facts.get(key) or "not recorded") for key in ("licence", "training_data_overlap"))
        lines.append(
            f"- *{modality}*: {markdown(facts.get('name', 'encoder'))}, licence {licence}; overlap of its training data"
            f" with IEMOCAP and MELD: {overlap}"
        )
    return "\n".join(lines)


def _faces(facts: dict[str, Any]) -> str:
    """How faces were found and chosen; empty if unknown."""
    if "detector" not in facts or "choice" not in facts:
        return ""
    words = (
        f"Faces were found by *{markdown(facts['detector'])}*; where several people were visible,"
        f" *{markdown(facts['choice'])}* chose."
    )
    if "off_screen_utterances" not in facts:
        return words
    if not facts["judged_utterances"]:
        return f"{words} No utterance had both a face and audio to judge by."
    share = f"{facts['off_screen_utterances']} of {facts['judged_utterances']} utterances that could be judged"
    percent = f"{100 * facts['off_screen_utterances'] / facts['judged_utterances']:.1f} %"
    kept = "have no face" if facts.get("off_screen") == "absent" else "keep the likeliest face anyway"
    return f"{words} In {share} ({percent}) no mouth matches the audio: the speaker is off screen; they {kept}."


def _quality(info: dict[str, Any]) -> list[str]:
    """The meaning of each audit column, and the models that it was computed with."""
    if not info.get("quality"):
        return []
    names = [name.removeprefix(PREFIX) for name in info["quality"]["columns"]]
    asr = info["quality"].get("settings", {}).get("audit", {}).get("asr") or {}
    model = asr.get("checkpoint", {})
    told = " at revision ".join(filter(None, (model.get("repo"), model.get("revision")))) or (
        f"sha256:{model['sha256']}" if "sha256" in model else ""
    )
    return [
        "## Quality of each utterance",
        "Values from an audit, null where unknown; nothing was dropped because of them. "
        + (f"Speech was recognised by the Whisper *{markdown(told)}*." if told else "No speech was recognised."),
        "\n".join(
            f"- {code(f'{PREFIX}{name}')}: {markdown(QUALITY.get(name, 'a value unknown to this version'))}"
            for name in names
        ),
    ]


def _selection(info: dict[str, Any]) -> list[str]:
    """How a condition selected a subset."""
    return (
        ["## Selection", "\n".join(f"- {markdown(line)}" for line in info["selection"])]
        if info.get("selection")
        else []
    )


def _about(table: str, info: dict[str, Any]) -> str:
    return _ABOUT[table].format(texts=" texts," if info.get("transcripts", True) else "")


def _cell(value: object) -> str:
    return "–" if value is None or value == "" else markdown(value)


def _failures(root: Path, splits: Sequence[str]) -> str:
    counts: Counter[tuple[str, str, str]] = Counter()
    by_split: dict[str, Counter[tuple[str, str, str]]] = {}
    for split in splits:
        by_split[split] = Counter()
        for path in sorted((root / "failures").glob(f"{split}-*-of-*.parquet")):
            table = parquet.read(path, ["reason", "modality", "stage"])
            by_split[split].update(
                zip(*(table[name].to_pylist() for name in ("reason", "modality", "stage")), strict=True)
            )
        counts.update(by_split[split])
    if not counts:
        return "Nothing."
    lines: list[list[object]] = []
    for reason, modality, stage in sorted(counts):
        kind, meaning = REASONS.get(reason, ("?", "a reason unknown to this version"))
        lines.append(
            [
                code(reason),
                kind,
                meaning,
                markdown(modality),
                markdown(stage),
                *(by_split[split][reason, modality, stage] for split in splits),
            ]
        )
    return _markdown(["reason", "kind", "meaning", "modality", "stage", *splits], lines)
