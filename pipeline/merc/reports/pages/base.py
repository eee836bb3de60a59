"""What all pages share: where each lies, how one is made from its template, and how its scripts are given data.

reports/
  index.html                  the overview
  pages/assets/               styles and scripts of this package
  pages/<dataset>/            index.html, compare.html, dialogues.html, and what these load
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from merc import files
from merc.shown import visible, visible_json

PAGES = "pages"
ASSETS = f"{PAGES}/assets"
MARKER = f"{PAGES}/made-by-merc-report.txt"
MARK = "This folder is made by merc-report, and replaced as a whole whenever it is run.\n"
OVERVIEW = "index.html"


@dataclass(frozen=True)
class Link:
    """A link in the head of a page; ``target`` is relative to the report's folder."""

    words: str
    target: str


def folder_of(dataset: str) -> str:
    """The folder of a dataset's pages, relative to the report's.

    >>> folder_of("demo-meld")
    'pages/demo_2dmeld'
    """
    return f"{PAGES}/{slug(dataset)}"


def slug(name: str) -> str:
    """A name as it is in paths and after ``#``: other signs than ASCII letters and digits are written by their
    number.

    >>> slug("mmgcn+dclf")
    'mmgcn_2bdclf'
    """
    return "".join(sign if sign.isalnum() and sign.isascii() else f"_{ord(sign):x}" for sign in name)


def links_of(dataset: str) -> list[Link]:
    """To the pages of a dataset, as they are in the head of each."""
    home = folder_of(dataset)
    return [
        Link("All datasets", OVERVIEW),
        Link(dataset, f"{home}/index.html"),
        Link("Compare", f"{home}/compare.html"),
        Link("Dialogues", f"{home}/dialogues.html"),
    ]


def dialogues_where(**state: str) -> str:
    """A link from another page of a dataset to the dialogues that fit.

    Args:
        state: what the page of all dialogues is filtered by, such as ``failure`` or ``emotion`` and ``predicted``.

    >>> dialogues_where(recipe="mmgcn+dclf", emotion="joy")
    'dialogues.html#recipe=mmgcn%2Bdclf&emotion=joy'
    """
    return "dialogues.html#" + "&".join(f"{key}={quote(visible(value), safe='')}" for key, value in state.items())


@dataclass(frozen=True)
class Report:
    """A report that is being made.

    Attributes:
        folder: where it is made; every path that a page is given is relative to it.
        versions: of the libraries (:func:`merc.provenance.versions`), at the foot of every page.
    """

    folder: Path
    versions: dict[str, str]

    def write(
        self,
        target: str,
        template: str,
        title: str,
        *,
        links: Sequence[Link] = (),
        styles: Sequence[str] = (),
        scripts: Sequence[str] = (),
        **view: Any,
    ) -> None:
        """Makes a page.

        Args:
            target: where, such as ``pages/meld/compare.html``.
            template: a file in ``templates``.
            title: of the page, its first heading.
            links: of its head.
            styles: further files in ``assets``; ``style.css`` is on every page.
            scripts: what it loads, each relative to the report's folder, in this order.
            view: what the template is given. All of it is escaped.
        """
        root = "../" * target.count("/")
        page = _environment().get_template(template)
        sources = [root + one for one in scripts]
        text = page.render(
            title=title,
            here=target,
            root=root,
            links=links,
            styles=styles,
            inlined="",
            scripts=sources,
            versions=self.versions,
            **view,
        )
        files.write_text(self.folder / target, visible(text))

    def write_data(self, target: str, name: str, value: Any) -> None:
        """Writes data for a page's scripts, which find it as ``merc.data[name]``: a script, since a page from a disk
        may load nothing else.

        Args:
            target: where, such as ``pages/meld/compare-data.js``.
            name: of the data.
            value: what JSON can hold; keys stay in their order.
        """
        text = visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        for (
            sign
        ) in "<>&\u2028\u2029":  # they occur only in strings; no page takes them for markup, wherever the text ends up
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        files.write_text(self.folder / target, f"(window.merc ??= {{data: {{}}}}).data[{json.dumps(name)}] = {text};\n")

    def write_assets(self) -> None:
        """Copies the styles and scripts of this package, and says whose folder this is (:mod:`merc.reports.place`)."""
        files.write_text(self.folder / MARKER, MARK)
        for one in sorted(resources("merc.reports.pages").joinpath("assets").iterdir(), key=lambda one: one.name):
            files.write_text(self.folder / ASSETS / one.name, one.read_text(encoding="utf-8"))


def standalone(template: str, title: str, versions: dict[str, str], **view: Any) -> str:
    """A page of the same look that is one file and needs nothing else.

    Args:
        template: a file in ``templates``.
        title: of the page.
        versions: as in :class:`Report`.
        view: what the template is given. All of it is escaped.
    """
    style = resources("merc.reports.pages").joinpath("assets", "style.css").read_text(encoding="utf-8")
    page = _environment().get_template(template)
    return visible(
        page.render(
            title=title, here="", root="", links=(), styles=(), inlined=style, scripts=(), versions=versions, **view
        )
    )


def breakable(name: str) -> Markup:
    """A name that a line may be broken in after its signs; nothing of it is taken for markup.

    >>> breakable("mmgcn+dclf<b>")
    Markup('mmgcn+<wbr>dclf&lt;b&gt;')
    """
    return Markup(re.sub(r"(?<=[+_./-])(?=\w)", "<wbr>", str(escape(name))))  # noqa: S704 - escaped before


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("merc.reports.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}".replace(",", "\u202f")
    environment.filters["breakable"] = breakable
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}\u202f%"
    return environment
