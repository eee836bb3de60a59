"""``merc-shards inspect``: what is inside."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import log
from merc.command_line import echo, echo_json, exiting

if TYPE_CHECKING:
    from merc.shards.overview import Overview


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(folder: Path, as_json: bool) -> None:
    """Summarise the shards in FOLDER.

    Prints corpora, splits, labels, coverage, encoders, failures, and the similarities with neighbours. Counts are those
    recorded when the shards were written; `merc-shards validate` checks them.
    """
    log.set_up()
    with exiting():
        from merc.shards.overview import overview

        found = overview(folder)
        if as_json:
            echo_json(asdict(found))
            return
        for line in table(found):
            echo(line)


def table(found: "Overview") -> Iterator[str]:
    """The overview as lines of text, at most 120 columns unless names are longer."""
    texts = "with transcripts" if found.transcripts else "without transcripts"
    yield (
        f"{', '.join(found.corpora)}: labels {found.label_set}, {texts}, schema version {found.schema_version},"
        f" {found.files} files, {_size(found.bytes)}"
    )
    yield ""
    yield _row("", found.splits)
    for what in ("dialogues", "utterances"):
        yield _row(what, [found.counts[split][what] for split in found.splits])
        if len(found.corpora) > 1:
            for corpus, counts in found.corpora.items():
                yield _row(f"  {corpus}", [counts.get(split, {}).get(what, 0) for split in found.splits])
    for name in next(iter(found.counts.values()), {"labels": {}})["labels"]:
        yield _row(f"  {name}", [found.counts[split]["labels"][name] for split in found.splits])
    yield _row("  outside the labels", [found.counts[split]["unlabelled"] for split in found.splits])
    for modality in found.encoders:
        yield _row(
            f"with {modality}",
            [
                _share(found.counts[split]["present"][modality], found.counts[split]["utterances"])
                for split in found.splits
            ],
        )
    yield ""
    yield f"{'':8} {'encoder':20} {'dim':>5}  {'revision':16} {'layer':>5}  {'licence':16} IEMOCAP, MELD seen"
    for modality, facts in found.encoders.items():
        shown = {key: "-" if value is None else str(value) for key, value in facts.items()}
        seen = shown["training_data_overlap"].replace(";", "(").replace(":", "(").split("(")[0].strip()
        yield (
            f"{modality:8} {shown['name']:20} {shown['dim']:>5}  {shown['revision'][:16]:16} {shown['layer']:>5} "
            f" {shown['licence'][:16]:16} {seen}"
        )
    yield ""
    if found.failures:
        yield _row("failures", found.splits)
        for one in found.failures:
            yield _row(f"  {one['reason']}, {one['modality']} ({one['kind']})", list(one["splits"].values()))
    else:
        yield "no failures"
    yield ""
    yield f"nearest dialogues by {', '.join(found.neighbours)}" if found.neighbours else "no nearest dialogues"
    if found.quality:
        yield f"columns of an audit: {', '.join(found.quality)}"
    yield from found.selection
    if found.made_from:
        yield f"made from shards of {', '.join(found.made_from)}"


def _row(title: str, cells: list[object] | list[int] | list[str]) -> str:
    return f"{title:44}{''.join(f'{cell:>12}' for cell in cells)}".rstrip()


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _size(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.1f} kB"
