"""The page of ``merc-shards neighbours``: a dialogue and its nearest ones below each other. Texts come from corpora, so
everything is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from merc.reports.colours import emotion_colours, ink_on
from merc.reports.examples import abbreviations
from merc.shown import visible
from merc.trajectories.lookup import Seen

_TEMPLATE = "neighbours.html.j2"
# Compared after stretching, so drawn stretched.
_STRETCHED = ("path", "path_speakers", "dtw")


@dataclass(frozen=True)
class _Turn:
    """One utterance: ``left`` and ``width`` in per cent of the strip."""

    left: float
    width: float
    letters: str
    emotion: str
    colour: str | None
    ink: str
    speaker: str
    text: str

    @property
    def on_the_right(self) -> bool:
        """Whether its text must open to the left to stay on the page."""
        return self.left > 50


def render(shown: Sequence[Seen], name: str, classes: Sequence[str]) -> str:
    """A self-contained HTML file.

    Args:
        shown: the dialogue and its neighbours, best first.
        name: name of the similarity, such as ``path`` or ``edit_predicted``.
        classes: names of the labels.
    """
    environment = Environment(
        loader=PackageLoader("merc.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colours, short = emotion_colours(classes), abbreviations(classes)
    stretched = name.removesuffix("_predicted") in _STRETCHED
    longest = max(len(one.labels) for one in shown)
    strips = [(one, _turns(one, len(one.labels) if stretched else longest, classes)) for one in shown]
    legend = [(one, short[one], colours[one], ink_on(colours[one])) for one in classes]
    template = environment.get_template(_TEMPLATE)
    similarity, predicted = name.removesuffix("_predicted"), name.endswith("_predicted")
    return visible(
        template.render(strips=strips, similarity=similarity, predicted=predicted, stretched=stretched, legend=legend)
    )


def _turns(dialogue: Seen, across: int, classes: Sequence[str]) -> list[_Turn]:
    colours, short = emotion_colours(classes), abbreviations(classes)
    turns = []
    for position, (label, speaker, text) in enumerate(
        zip(dialogue.labels, dialogue.speakers, dialogue.texts, strict=True)
    ):
        emotion = classes[label] if label >= 0 else ""
        colour = colours.get(emotion)
        letters = short[emotion] if emotion and len(short[emotion]) <= 60 // across else ""
        ink = ink_on(colour) if colour else ""
        turns.append(
            _Turn(
                100 * position / across,
                100 / across,
                letters,
                emotion or "outside the label set",
                colour,
                ink,
                speaker,
                text,
            )
        )
    return turns
