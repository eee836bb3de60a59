"""What all pages share: their paths, how one is made from its template, and how its scripts get data.

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
    """A name for paths and after ``#``: characters other than ASCII letters and digits are written as numbers.

    >>> slug("mmgcn+dclf")
    'mmgcn_2bdclf'
    """
    return "".join(sign if sign.isalnum() and sign.isascii() else f"_{ord(sign):x}" for sign in name)


def links_of(dataset: str) -> list[Link]:
    """Links to the pages of a dataset, for the head of each."""
    home = folder_of(dataset)
    return [
        Link("All datasets", OVERVIEW),
        Link(dataset, f"{home}/index.html"),
        Link("Compare", f"{home}/compare.html"),
        Link("Dialogues", f"{home}/dialogues.html"),
    ]


def dialogues_where(**state: str) -> str:
    """A link from another page of a dataset to the matching dialogues.

    Args:
        state: filters of the page of all dialogues, such as ``failure`` or ``emotion`` and ``predicted``.

    >>> dialogues_where(recipe="mmgcn+dclf", emotion="joy")
    'dialogues.html#recipe=mmgcn%2Bdclf&emotion=joy'
    """
    return "dialogues.html#" + "&".join(f"{key}={quote(visible(value), safe='')}" for key, value in state.items())


@dataclass(frozen=True)
class Report:
    """A report that is being made.

    Attributes:
        folder: its folder; every path given to a page is relative to it.
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
            target: its path, such as ``pages/meld/compare.html``.
            template: a file in ``templates``.
            title: title of the page, its first heading.
            links: links in its head.
            styles: further files in ``assets``; ``style.css`` is on every page.
            scripts: scripts that it loads, relative to the report's folder, in this order.
            view: values for the template. Everything is escaped.
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
        """Writes data for a page's scripts, which find it as ``merc.data[name]``: as a script, since a page opened from
        a disk cannot load anything else.

        Args:
            target: its path, such as ``pages/meld/compare-data.js``.
            name: name of the data. value: JSON-able; the order of keys is kept.
        """
        text = visible_json(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        for sign in "<>&\u2028\u2029":  # they occur only in strings, and must not be interpreted as markup anywhere
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        files.write_text(self.folder / target, f"(window.merc ??= {{data: {{}}}}).data[{json.dumps(name)}] = {text};\n")

    def write_assets(self) -> None:
        """Copies the styles and scripts of this package, and marks the folder as ours (:mod:`merc.reports.place`)."""
        files.write_text(self.folder / MARKER, MARK)
        for one in sorted(resources("merc.reports.pages").joinpath("assets").iterdir(), key=lambda one: one.name):
            files.write_text(self.folder / ASSETS / one.name, one.read_text(encoding="utf-8"))


def standalone(template: str, title: str, versions: dict[str, str], **view: Any) -> str:
    """A self-contained page with the same look.

    Args:
        template: a file in ``templates``.
        title: title of the page.
        versions: as in :class:`Report`.
        view: values for the template. Everything is escaped.
    """
    style = resources("merc.reports.pages").joinpath("assets", "style.css").read_text(encoding="utf-8")
    page = _environment().get_template(template)
    return visible(
        page.render(
            title=title, here="", root="", links=(), styles=(), inlined=style, scripts=(), versions=versions, **view
        )
    )


def breakable(name: str) -> Markup:
    """A name that may be broken after punctuation; nothing in it is interpreted as markup.

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
