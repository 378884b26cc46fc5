"""The project's one family of exceptions: catch `SARError` to catch them all."""

import difflib
from collections.abc import Iterable


class SARError(Exception):
    """Base class. Every message says what was found, what was expected and what to do next."""


class ConfigError(SARError):
    """A configuration key or command-line value is wrong."""


class UsageError(ConfigError):
    """The command line itself is wrong: an unknown option, a missing argument."""


class DataError(SARError):
    """A dataset, class file or image is missing, unreadable or inconsistent."""


class WeightsError(SARError):
    """CLIP weights or a checkpoint are missing, damaged or do not fit the model."""


class StorageError(SARError, OSError):
    """A file or folder cannot be written, for lack of space or rights; an `OSError`, too."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotFiniteError(SARError, FloatingPointError):
    """A weight, a loss or a score is NaN or infinite, so that no result can be right."""


class HostError(SARError):
    """The toolbox in use (a checkout, Dassl or the embedded one) lacks what is needed."""


class BusyError(SARError):
    """Another process is at work in the same folder."""


class EndpointError(SARError):
    """A language-model endpoint cannot be used, or gives no usable answer."""


class MissingPackageError(SARError):
    """A package is not installed that only some commands need."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate spelled most like `name`, if any is close; letter case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: what may have been meant, or nothing."""
    guess = nearest(name, candidates)
    return f"; did you mean {guess}?" if guess else ""


def one_line(error: object, most: int = 300) -> str:
    """What an error of another library says, in a line of at most `most` characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:most]
