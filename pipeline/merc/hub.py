"""What all uses of the Hugging Face hub share: a check whether it answers, its progress bars, and its refusals in one
sentence.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from merc.errors import BadSettings, HubRefuses, PipelineError

_SECONDS = 4.0
_CURES = {
    400: "the hub does not accept it as it is",
    401: "not logged in on this machine, or the token is invalid: `hf auth login`, or a token in HF_TOKEN",
    403: (
        "the token may not do that: it needs write access to push, and access to this repository; `hf auth whoami`"
        " tells whose it is"
    ),
    404: "there is no such repository or revision, or it is private and this token does not see it: `hf auth login`",
    409: "it was changed at the same time; run the same command again",
    412: "it was changed at the same time; run the same command again",
    429: "too many requests; wait a few minutes, then run the same command again",
}
_AGAIN = "the hub has an internal problem; run the same command again later"


def silence() -> str:
    """For a message: why the hub cannot be reached; empty if it answers anything, or if huggingface_hub is set to
    offline mode.

    There is one short attempt: huggingface_hub's own client tries six times, which takes half a minute.
    """
    from huggingface_hub import constants

    return "" if constants.HF_HUB_OFFLINE else _silence(constants.ENDPOINT)


@cache
def _silence(endpoint: str) -> str:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        get_session().head(endpoint, timeout=_SECONDS)
    except (HTTPError, OSError) as error:
        return f"the hub at {endpoint} does not answer: {first_line(error).rstrip('.')}"
    return ""


@contextmanager
def progress(*, shown: bool) -> Iterator[None]:
    """Progress bars of huggingface_hub only on a terminal; by default it draws them everywhere."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled() or (shown and sys.stderr.isatty()):
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def refusing(what: str, kept: str) -> Iterator[None]:
    """Turns errors of the hub's client in the block into one message.

    Args:
        what: the action, with the name of the repository: ``push to OWNER/NAME``.
        kept: what is not lost, for the end of the message.

    Raises:
        BadSettings: if the name of the repository is invalid.
        HubRefuses: if the hub refuses, does not answer, or the connection breaks.
    """
    from huggingface_hub import errors

    try:
        if why := silence():
            raise HubRefuses(f"{what}: {why}. {kept}")
        yield
    except errors.HFValidationError as error:
        raise BadSettings(f"{what}: {first_line(error)}") from error
    except (errors.HTTPError, errors.XetDownloadError, OSError) as error:  # type: ignore[attr-defined]
        if getattr(error, "errno", None) is not None and not isinstance(error, ConnectionError):
            raise  # a full disk, a read-only folder
        raise _explained(what, kept, error) from error


def _explained(what: str, kept: str, error: BaseException) -> PipelineError:
    from huggingface_hub import errors

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, errors.HfHubHTTPError | errors.OfflineModeIsEnabled):
        cause = cause.__cause__
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return HubRefuses(f"{what}: HF_HUB_OFFLINE forbids contacting the hub; unset it")
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        said = cause.server_message or first_line(cause)
        return HubRefuses(
            f"{what}: the hub refuses ({status}): {_CURES.get(status, _AGAIN)}. It says:"
            f" {said.splitlines()[0].rstrip('.')}. {kept}"
        )
    return HubRefuses(f"{what}: the connection broke: {first_line(error).rstrip('.')}. {kept}")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
