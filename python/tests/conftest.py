"""What the tests share: nodes in processes of their own, events that can be waited for, and a server for buckets."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peerfold

# A shell starts what runs in its background with Ctrl-C ignored, and so would be the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Longest that anything is waited for: far more than it takes.
PATIENCE = 120.0

WORKER = Path(__file__).with_name("worker.py")


class Recorder:
    """A callback for events that can be waited on."""

    def __init__(self) -> None:
        self.events: list[peerfold.Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: peerfold.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def named(self, name: str) -> list[peerfold.Event]:
        with self._changed:
            return [event for event in self.events if event.name == name]

    def wait(self, name: str) -> peerfold.Event:
        """The first event of this name, when it is there."""
        with self._changed:
            found = self._changed.wait_for(lambda: any(event.name == name for event in self.events), PATIENCE)
            assert found, f"no {name} in {self.events}"
        return self.named(name)[0]


class Process:
    """A node in a process of its own. Its lines are JSON."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[dict[str, Any]] = []
        self.errors = ""
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def wait_for(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line like that."""
        until = time.monotonic() + PATIENCE
        while True:
            line = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            assert line is not None, f"ended without it: {self.lines} {self.errors}"
            self.lines.append(line)
            if is_it(line):
                return line

    def wait_event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first event like that."""
        return self.wait_for(
            lambda line: line.get("event") == name and all(line.get(key) == value for key, value in fields.items())
        )

    def kill(self) -> None:
        """By SIGKILL."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        """By Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, code: int = 0, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Waits for its end. All of its lines."""
        status = self.process.wait(patience)
        for reader in self._readers:
            reader.join(PATIENCE)
        while (line := self._queue.get(timeout=1)) is not None:
            self.lines.append(line)
        assert status == code, f"{status}: {self.errors}"
        return self.lines

    def result(self) -> dict[str, Any]:
        """What it says at its end."""
        return next(line for line in self.end() if "result" in line)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def programs() -> Iterator[Callable[..., Process]]:
    """Starts commands. Those that are left are killed."""
    started: list[Process] = []

    def start(command: list[str], environment: dict[str, str] | None = None) -> Process:
        started.append(Process(command, environment))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def processes(programs: Callable[..., Process]) -> Callable[..., Process]:
    """Starts workers, `worker.py` with these settings. Those that are left are killed."""

    def start(environment: dict[str, str] | None = None, **settings: Any) -> Process:
        return programs([sys.executable, "-u", str(WORKER), json.dumps(settings)], environment)

    return start


def model(value: float = 0.0) -> dict[str, Any]:
    """Small weights."""
    return {
        "dense.weight": np.full((2, 3), value, np.float32),
        "dense.bias": np.full(3, value, np.float32),
        "steps": np.array(0, np.int64),
    }


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment for a bucket of the name `weights`, on a server of moto's."""
    server = pytest.importorskip("moto.server", reason="moto isn't installed")
    threaded = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="weights")
    yield environment
    threaded.stop()
