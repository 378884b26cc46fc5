"""The project's one family of exceptions: catch `SARError` to catch them all."""


class SARError(Exception):
    """Base class. Every message says what was found, what was expected and what to do next."""


class ConfigError(SARError):
    """A configuration key or command-line value is wrong."""


class DataError(SARError):
    """A dataset, class file or image is missing, unreadable or inconsistent."""


class WeightsError(SARError):
    """CLIP weights or a checkpoint are missing, damaged or do not fit the model."""


class HostError(SARError):
    """The toolbox in use (a checkout, Dassl or the embedded one) lacks what is needed."""


class EndpointError(SARError):
    """A language-model endpoint cannot be used, or gives no usable answer."""
