"""Whether the Hugging Face hub answers, asked once and briefly: its own client tries six times, which takes half a minute."""

from functools import cache

_SECONDS = 4.0


def silence() -> str:
    """Why the hub cannot be asked, for a message; empty if it answers, whatever it answers, or if huggingface_hub was told to stay offline."""
    from huggingface_hub import constants

    return "" if constants.HF_HUB_OFFLINE else _silence(constants.ENDPOINT)


@cache
def _silence(endpoint: str) -> str:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        get_session().head(endpoint, timeout=_SECONDS)
    except (HTTPError, OSError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"the hub at {endpoint} does not answer: {words.rstrip('.')}"
    return ""
