"""Events: what happens in a node, as Python objects, for a callback and for `logging`; and what Rust's half logs."""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import _native

#: Where events are logged, and what else the package has to say.
log = logging.getLogger("peerfold")

#: Events that tell of trouble.
_WARNINGS = frozenset(
    {"alone", "rejected", "suspect", "mismatch", "excluded", "claim_cut", "not_folded", "folder_failed", "peer_dropped"}
    | {"progress_dropped", "left_out"}
)
#: Why nothing was folded, where that is nobody's trouble: others are slower, or there are none, which `alone` tells.
_NOTHING_NEW = (
    "no peer has anything to fold",
    "not in this epoch: epochs between folds",
    "not in this epoch: participation probability",
    "not in this epoch: upload_only",
    "this node only uploads",
)
#: Events of which there are many.
_DETAILS = frozenset({"published", "received", "peer_reached", "peer_not_reached", "progress_saved"})


class Event(Mapping[str, Any]):
    """Something that has happened in a node.

    `event.name` is what: `started`, `folded`, `rejected`, … Its fields are attributes, and items as in a dict:
    `event.epoch` is `event["epoch"]`. The events and their fields are those of `peerfold node --json`, which
    `schema/events.schema.json` in the repository describes.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        """An event of these fields, of which `event` is its name."""
        self._fields = fields

    @property
    def name(self) -> str:
        """What has happened."""
        return str(self._fields["event"])

    def __getattr__(self, field: str) -> Any:
        """A field."""
        if field.startswith("_"):
            raise AttributeError(field)
        try:
            return self._fields[field]
        except KeyError:
            raise AttributeError(f"the event {self.name} has no field {field!r}") from None

    def __getitem__(self, field: str) -> Any:
        """A field."""
        return self._fields[field]

    def __iter__(self) -> Iterator[str]:
        """Its fields' names."""
        return iter(self._fields)

    def __len__(self) -> int:
        """How many fields it has."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Its name and fields."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self._fields.items() if name != "event")
        return f"Event({self.name}, {fields})"

    def __str__(self) -> str:
        """As it is logged."""
        fields = ", ".join(f"{name}={_short(value)}" for name, value in self._fields.items() if name != "event")
        return f"{self.name}: {fields}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 2000 or "\n" in text else f"{text[:2000]}…"


#: What an entry can't say of its value, and what a stranger wants to know of it.
_OTHER_LAYOUT = "another layout than this node's model"
_ALL_ALIKE = f"{_OTHER_LAYOUT}: names, shapes and dtypes of all shared tensors must be equal on all nodes"


def _in_pythons_words(fields: dict[str, Any]) -> dict[str, Any]:
    """The program's flags are options here: `--min-peers` is `min_peers`."""
    reason = fields.get("reason")
    if isinstance(reason, str):
        reason = re.sub(r"(?<![\w-])--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), reason)
        fields["reason"] = reason.replace(_OTHER_LAYOUT, _ALL_ALIKE) if _ALL_ALIKE not in reason else reason
    return fields


def _level(event: Event) -> int:
    if event.name in _DETAILS:
        return logging.DEBUG
    is_usual = event.name == "not_folded" and str(event.get("reason")).endswith(_NOTHING_NEW)
    return logging.WARNING if event.name in _WARNINGS and not is_usual else logging.INFO


#: What is called with each event, on a thread of the package's own.
EventCallback = Callable[[Event], object]


class Teller(threading.Thread):
    """Takes a node's events and tells them. A thread of its own, so that a slow callback holds nobody up."""

    def __init__(self, events: _native.Events, callback: EventCallback | None) -> None:
        """Tells these events to the callback, if there is one, and to `logging`."""
        super().__init__(name="peerfold-events", daemon=True)
        self._events, self._callback = events, callback

    def run(self) -> None:
        """Until the node has ended."""
        while (taken := self._events.next()) is not None:
            text, lost = taken
            if lost:
                log.warning("%d events were lost: the callback takes longer than the node has them", lost)
            event = Event(_in_pythons_words(json.loads(text)))
            log.log(_level(event), "%s", event)
            if self._callback is None:
                continue
            try:
                self._callback(event)
            except Exception:
                log.exception("the callback for events has failed at %s; it is called for the next one again", event)


#: Rust's levels. Others are for debugging.
_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


class _LogReader(threading.Thread):
    """Gives what Rust's half logs to `logging`, under `peerfold` and the names of its modules."""

    def __init__(self, lines: _native.Events) -> None:
        """Of these lines."""
        super().__init__(name="peerfold-logs", daemon=True)
        self._lines, self.process = lines, os.getpid()

    def run(self) -> None:
        """Until it is closed."""
        while (taken := self._lines.next()) is not None:
            text, lost = taken
            if lost:
                log.warning("%d log lines were lost", lost)
            line = json.loads(text)
            logger = log.getChild(line["target"].removeprefix("peerfold::").replace("::", "."))
            logger.log(_LEVELS.get(line["level"], logging.DEBUG), "%s", line["message"])

    def close(self) -> None:
        """Says what there is, and ends."""
        self._lines.close()
        self.join(1)


_following = threading.Lock()
_reader: _LogReader | None = None


def follow_logs() -> None:
    """From the first call on, what Rust's half logs goes to `logging`, until the interpreter ends."""
    global _reader
    with _following:
        if _reader is None and (lines := _native.follow_logs()) is not None:
            _reader = _LogReader(lines)
            _reader.start()


@atexit.register
def _end_logs() -> None:
    # After the nodes have ended: what is registered first is called last. Not in a child of fork, where a thread that
    # is no more may hold the queue's lock.
    if _reader is not None and _reader.process == os.getpid():
        _reader.close()
