"""How benchmarks write their results: scores, dated files, and tables in documents otherwise written by hand."""

import datetime
import statistics
from collections.abc import Sequence
from pathlib import Path

from merc import files


def put_table(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces the lines between the marks of this name; appends them with their marks if the file has none. A table
    with fewer rows than the one that it would replace, as of a trial, goes to ``<stem>.partial.md`` instead.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    there = text.partition(begin)[2].partition(end)[0].splitlines()
    if _rows(lines) < _rows(there) and not path.name.endswith(".partial.md"):
        partial = path.with_name(f"{path.stem}.partial.md")
        print(f"fewer rows than in {path.name}; written to {partial}")
        put_table(partial, name, lines)
        return
    if begin not in text:
        text = f"{text}{chr(10) if text else ''}{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = "\n".join(lines)
    files.write_text(path, f"{before}{begin}\n{body}\n{end}{after}")


def _rows(lines: Sequence[str]) -> int:
    return sum(line.startswith("|") for line in lines)


def put_dated(script: str, lines: Sequence[str], out: Path | None) -> None:
    """Writes a file with today's date next to a script, ``<script>_<date>.md``, or ``out``, and logs the path."""
    target = out or Path(script).with_name(f"{Path(script).stem}_{datetime.date.today()}.md")
    files.write_text(target, "\n".join(lines) + "\n")
    print(target)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation (n - 1) in per cent, or the single value."""
    return (
        f"{100 * statistics.fmean(values):.2f} ± {100 * statistics.stdev(values):.2f}"
        if len(values) > 1
        else f"{100 * values[0]:.2f}"
    )
