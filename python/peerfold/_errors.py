"""The exceptions that this package raises. Their messages are one line and say what to do."""

from __future__ import annotations


class Error(Exception):
    """Whatever goes wrong in Peerfold. All other exceptions of the package are kinds of it."""


class SettingError(Error, ValueError):
    """An option has a value that it can't have, or names a file that can't be used."""


class StrategyError(Error, ValueError):
    """There is no such strategy, or it can't have such a parameter."""


class WeightsError(Error, ValueError):
    """Arrays can't be weights, have another layout than the model, or aren't finite.

    Nothing of them is published or saved: the epoch can be trained again.
    """


class MetricsError(Error, ValueError):
    """Figures that can't be published: too many, or a name too long. Nothing of the epoch is published or saved."""


class UsageError(Error, RuntimeError):
    """A call at a time at which it can't be answered: before `begin`, after `close`, or during another call."""


class ForkError(UsageError):
    """A node is used in a child of `fork`, which has none of its threads. It goes on in the process that made it."""


class FolderError(Error, OSError):
    """The shared folder can't be used. What was trained is in the node's home, and is published by its next life."""


class HomeError(Error, OSError):
    """The node's home can't be used: another process has it, or it can't be read or written."""


class CheckpointError(Error):
    """The checkpoint in the home can't be used: it is damaged, or of another model, strategy or version."""


class QuorumError(Error):
    """Too few members of a synchronous federation answered in time, and `below_quorum="stop"` was given."""


class Stopped(Error):
    """A stop was requested. What is complete is published and saved; a node made anew in this home goes on there."""

    def __init__(self, what: str = "stopped on request") -> None:
        """Says what to do after it."""
        super().__init__(f"{what}; make the node anew in its home, and it goes on where it was")
