"""Repairs wrongly decoded text, and nothing else: curly quotes, dashes and accents are kept as in the corpus.

Older copies of transcripts have two kinds of damage: bytes of cp1252 in a file that is UTF-8 elsewhere, and text that
was once decoded with the wrong code page (``donâ€™t``, or U+0092 where an apostrophe was).
"""

import ftfy
import ftfy.bad_codecs

ftfy.bad_codecs.ok()  # its import registers the codec below; the call only makes that explicit


def decode(line: bytes) -> tuple[str, bool]:
    """Decodes one line: as UTF-8, else as cp1252.

    The five bytes that cp1252 leaves undefined become the control characters of the same number, so that every line can
    be decoded and no byte is lost.

    Returns:
        The text, and whether it had to be read as cp1252.
    """
    try:
        return line.decode("utf-8"), False
    except UnicodeDecodeError:
        return line.decode("sloppy-windows-1252"), True


def repair(text: str) -> str:
    """Undoes a wrong decoding; text without traces of one is unchanged (as are all 13,708 utterances of MELD's current
    files).

    >>> repair("Donâ€™t. You\\x92re “here”…")
    'Don’t. You’re “here”…'
    """
    # replace_lossy_sequences would insert U+FFFD where a byte is lost: that hides what was there instead of restoring
    # it.
    return ftfy.fix_encoding(text, replace_lossy_sequences=False)
