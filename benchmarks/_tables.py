"""Tables in a document that is otherwise written by hand."""

from collections.abc import Sequence
from pathlib import Path

from pipeline import files


def put_table(path: Path, name: str, lines: Sequence[str]) -> None:
    """Puts lines between the marks of this name, in place of what stands there; at the end of the file, marks included, if it has none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in text:
        text = f"{text}{chr(10) if text else ''}{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = "\n".join(lines)
    files.write_text(path, f"{before}{begin}\n{body}\n{end}{after}")
