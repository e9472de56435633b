"""Every error Knit raises, split by who must act on it."""

from __future__ import annotations


class KnitError(Exception):
    """The root of all errors of this project."""


class EventError(KnitError):
    """The sender must act: what was sent is no valid CloudEvent (400). The text names the attribute and the rule."""


class ResourceError(KnitError):
    """The author of a resource must act. `path` is the field path, such as `spec.delivery.retry`."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class FilterError(KnitError):
    """A filter cannot be compiled: the author of the Trigger must act."""


class SettingsError(KnitError):
    """The operator must act: a flag, variable or folder is wrong (exit code 2)."""


class StoreError(KnitError):
    """A store cannot be opened or read. The text names the place and the command that repairs it; never start empty."""


class NotConnectedError(KnitError):
    """A backend is gone for the moment; who asked answers 503, a supervisor reconnects."""
