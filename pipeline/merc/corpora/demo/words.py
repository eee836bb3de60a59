"""The sentences of the demonstration corpus: several thousand from templates with slots, none used twice."""

import re

import numpy as np

_SLOTS: dict[str, tuple[str, ...]] = {
    "thing": (
        "the key",
        "the train",
        "the letter",
        "the window",
        "the soup",
        "the car",
        "the lamp",
        "the concert",
        "the garden",
        "the cat",
        "the flat",
        "the exam",
        "the boat",
    ),
    "who": (
        "my sister",
        "the neighbour",
        "your brother",
        "the landlord",
        "our teacher",
        "the doctor",
        "my boss",
        "the plumber",
        "your aunt",
    ),
    "later": ("today", "tomorrow", "on Monday", "at noon", "after work", "next week", "tonight"),
    "before": ("last night", "on Sunday", "this morning", "yesterday", "at lunch", "last week"),
    "where": (
        "at the station",
        "in the kitchen",
        "downstairs",
        "at the office",
        "by the lake",
        "in the hall",
        "across the street",
    ),
    "glad": ("happy", "so glad", "delighted"),
    "good": ("wonderful", "great", "lovely"),
    "sorry": ("sad", "lonely", "heartbroken"),
    "cross": ("furious", "angry", "mad"),
    "scared": ("scared", "afraid", "terrified"),
    "foul": ("disgusting", "gross", "revolting"),
    "whoa": ("Oh my God!", "What?!", "No way!", "Wow!"),
    "hooray": ("Yay!", "Ha!", "Oh, lovely!"),
    "grr": ("Stop it!", "Hey!", "That’s enough!"),
    "eww": ("Ew!", "Eww!", "Yuck!", "Ugh!"),
    "eek": ("Oh no!", "Shh!", "Help!"),
    "sigh": ("Oh.", "It’s just…"),
    "yes": ("Yes! Yes!", "Guess what!", "Can you believe it?"),
    "again": ("Again?", "I don’t get it.", "Look,"),
    "so": ("Okay,", "Well,", "So,", "Yeah,", "Right,", "Sure,"),
}

_SENTENCES: dict[str, tuple[str, ...]] = {
    "neutral": (
        "{so} {who} will be {where} {later}.",
        "{so} I left {thing} {where}.",
        "{so} did you ask {who} about {thing}?",
        "I think {who} has {thing} {later}.",
        "We can look at {thing} {later}.",
        "{so} it’s {where}, next to {thing}.",
        "{who} called about {thing} {before}.",
        "{so} then we meet {where} {later}.",
        "Let me see {thing} first.",
        "{so} {thing} is {where}.",
    ),
    "joy": (
        "{hooray} I’m {glad} about {thing}!",
        "{hooray} That’s {good}, {who} is coming {later}!",
        "{hooray} I love it, {thing} is {good}!",
        "{hooray} We won, I’m {glad}!",
        "{hooray} {who} said yes, that’s {good}, I’m {glad}!",
        "Thank you, that’s {good}! I love {thing}.",
        "It’s not bad at all, {thing} is {good}!",
    ),
    "surprise": (
        "{whoa} {who} was {where}?",
        "{whoa} You found {thing} {where}?",
        "{whoa} I can’t believe {who} did that!",
        "{whoa} Since when is {who} {where}?",
        "You’re kidding! {whoa} {thing}?",
        "{whoa} Really, {later}?",
        "{whoa} I had no idea about {thing}!",
    ),
    "sadness": (
        "{sigh} I’m {sorry} without {who}.",
        "{sigh} I miss {who} so much, I’m {sorry}.",
        "I’m not happy at all, {thing} is gone.",
        "{sigh} {who} left me {before}, and I feel {sorry}.",
        "{sigh} It’s over. I lost {thing}.",
        "{sigh} I cried {where} {before}. I’m {sorry}.",
        "{sigh} I wish {who} were still here.",
    ),
    "anger": (
        "{grr} You broke {thing}, I’m {cross}!",
        "{grr} How dare you talk to {who} like that!",
        "{grr} I’m {cross} with {who}!",
        "{grr} I told you not to touch {thing}!",
        "Get out! I’m {cross}, don’t you dare call {who}!",
        "{grr} That’s not fair, you always lose {thing}!",
        "{grr} I hate it when {who} lies to me!",
    ),
    "fear": (
        "{eek} I’m {scared}, there’s somebody {where}!",
        "{eek} Did you hear that noise {where}?",
        "{eek} Please don’t leave me here, I’m {scared}!",
        "{eek} I’m {scared} of {who}, what if it happens {later}?",
        "{eek} We’re going to die, I’m {scared}!",
        "{eek} Run! It’s {where}!",
    ),
    "disgust": (
        "{eww} {thing} smells {foul}!",
        "{eww} That’s {foul}, it’s all over {thing}!",
        "{eww} {who} ate that? How {foul}!",
        "{eww} There’s something slimy {where}, {foul}!",
        "{eww} I’m going to be sick, it’s {foul}!",
        "{eww} Take that {foul} stuff away!",
    ),
    "excited": (
        "{yes} I got in! It’s amazing, it starts {later}!",
        "{yes} We’re getting married {later}, it’s amazing!",
        "{yes} {who} did it, that’s amazing!",
        "{yes} I can’t wait for {thing}!",
        "{yes} We’re moving {later}, I can’t wait!",
        "{yes} I can’t wait, {who} gets here {later}!",
    ),
    "frustrated": (
        "{again} I already filled in that form, why is {thing} still missing?",
        "{again} I’ve been waiting {where} for an hour.",
        "{again} It never works. I’ve tried {thing} twice.",
        "{again} There’s nothing I can do, {who} won’t listen.",
        "{again} Why can’t anybody here help me with {thing}? I’ve been waiting.",
        "{again} I’ve tried. I called {who} {before}, it never works.",
    ),
}

_BEGIN = re.compile(r"^[a-z]|(?<=[.!?…] )[a-z]")


def sentence(rng: np.random.Generator, emotion: str) -> str:
    """A sentence that fits an emotion, with slots filled.

    Args:
        rng: chooses.
        emotion: a key of :data:`merc.corpora.demo.faces.EXPRESSIONS`.
    """
    templates = _SENTENCES[emotion]
    filled = templates[rng.integers(len(templates))].format_map(
        {name: words[rng.integers(len(words))] for name, words in _SLOTS.items()}
    )
    return _BEGIN.sub(lambda begin: begin.group().upper(), filled)


def new_sentence(rng: np.random.Generator, emotion: str, said: set[str]) -> str:
    """A sentence that is not in ``said``, and adds it.

    Raises:
        ValueError: if the templates are exhausted (thousands of utterances of one emotion).
    """
    for _ in range(1000):
        text = sentence(rng, emotion)
        if text not in said:
            said.add(text)
            return text
    raise ValueError(f"no new sentence for {emotion!r} after {len(said)} of all kinds; ask for fewer dialogues")


# Marks that transcribers put before or after a text, by the emotion of the words.
_TAGS = {
    "joy": "[LAUGHTER]",
    "excited": "[LAUGHTER]",
    "sadness": "[BREATHING]",
    "frustrated": "[breathing]",
    "neutral": "[LIPSMACK]",
    "anger": "[GARBAGE]",
}


def tagged(rng: np.random.Generator, text: str, emotion: str) -> str:
    """Adds a transcriber's mark to about one text in six, as in IEMOCAP's transcripts; apostrophes become ASCII in
    these.
    """
    plain = text.replace("’", "'").replace("…", "...")
    tag = _TAGS.get(emotion)
    if tag is None or rng.random() > 1 / 6:
        return plain
    return f"{tag} {plain}" if rng.random() < 0.5 else f"{plain} {tag}"


# A curly apostrophe whose UTF-8 bytes were once read as cp1252, as in damaged copies of transcripts.
MOJIBAKE_APOSTROPHE = "’".encode().decode("cp1252")
