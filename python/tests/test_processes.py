"""Nodes in processes of their own: the network, buckets, kills, Ctrl-C, forks, and ends of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Process, free_port, model

import peerfold

Start = Callable[..., Process]


def network(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    """Settings of nodes of one federation on the loopback. All know where to find the first."""
    port = free_port()
    home = tmp_path / "home-0"
    node = peerfold.AsyncFederatedNode(peerfold.P2PFolder("tests"), home=home)
    first = f"/ip4/127.0.0.1/tcp/{port}/p2p/{node.peer_id}"
    node.close()
    # A dead address costs nothing.
    dead = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7"
    settings = []
    for number in range(count):
        listen = f"/ip4/127.0.0.1/tcp/{port if number == 0 else 0}"
        folder = {"federation": "tests", "bootstrap": [dead, first], "listen": [listen], "no_mdns": True}
        settings.append(
            {"folder": ["P2PFolder", folder], "home": str(tmp_path / f"home-{number}"), "number": number, "epochs": 6}
        )
    return settings


def test_three_processes_learn_over_the_network(processes: Start, tmp_path: Path) -> None:
    nodes = [processes(**settings, num_nodes=3) for settings in network(tmp_path, 3)]
    results = [node.result() for node in nodes]
    assert results[0]["result"] == results[1]["result"] == results[2]["result"]
    for node in nodes:
        folded = [line for line in node.lines if line.get("event") == "folded"]
        assert [len(line["updates"]) for line in folded] == [3] * 6


def test_asynchronous_processes_fold_each_other_over_the_network(processes: Start, tmp_path: Path) -> None:
    settings = network(tmp_path, 2)
    nodes = [processes(**each, options={"min_peers": 1, "max_wait": 1.0}) for each in settings]
    for node in nodes:
        node.end()
    assert any(line.get("event") == "folded" for node in nodes for line in node.lines)


@pytest.mark.parametrize("place", ["network", "directory"])
def test_a_killed_process_resumes_to_equal_results(processes: Start, tmp_path: Path, place: str) -> None:
    def pair(directory: Path) -> list[dict[str, Any]]:
        directory.mkdir()
        settings = network(directory, 2)
        if place == "directory":
            for each in settings:
                each["folder"] = ["LocalFolder", {"directory": str(directory / "shared")}]
        return [{**each, "num_nodes": 2, "epochs": 8} for each in settings]

    undisturbed = [processes(**settings) for settings in pair(tmp_path / "undisturbed")]
    expected = [node.result() for node in undisturbed]
    settings = pair(tmp_path / "killed")
    first, second = (processes(**each) for each in settings)
    second.wait_event("epoch_done", epoch=2)
    second.kill()
    second = processes(**settings[1])
    assert second.wait_event("started")["origin"] == "checkpoint"
    second.wait_event("published", epoch=5)
    second.kill()
    second = processes(**settings[1])
    results = [first.result(), second.result()]
    assert [each["result"] for each in results] == [each["result"] for each in expected]
    assert [each["momentum"] for each in results] == [each["momentum"] for each in expected]


def test_a_bucket_is_a_folder(processes: Start, tmp_path: Path, s3: dict[str, str]) -> None:
    def settings(number: int, place: str) -> dict[str, Any]:
        folder = {"place": place, "s3_allow_http": True, "s3_poll": 0.1}
        home = tmp_path / place.replace("/", "-") / str(number)
        return {"folder": ["S3Folder", folder], "home": str(home), "number": number, "num_nodes": 2, "epochs": 3}

    # One prefix begins like the other, and they have nothing to do with each other.
    pairs = [
        [processes(environment=s3, **settings(number, place)) for number in (0, 1)]
        for place in ("weights/run", "s3://weights/run-2")
    ]
    results = [[node.result()["result"] for node in pair] for pair in pairs]
    assert results[0] == results[1] == [results[0][0]] * 2
    authors = {line["author"] for node in pairs[0] for line in node.lines if line.get("event") == "received"}
    assert len(authors) == 2


def test_an_interrupted_program_ends_and_resumes(processes: Start, tmp_path: Path) -> None:
    folder = ["LocalFolder", {"directory": str(tmp_path / "shared")}]
    settings = {"folder": folder, "home": str(tmp_path / "home"), "number": 0, "num_nodes": 2, "epochs": 3}
    # It waits at its start for another node.
    alone = processes(**settings)
    alone.wait_event("waiting")
    alone.interrupt()
    alone.end(code=-signal.SIGINT)
    assert "KeyboardInterrupt" in alone.errors
    # And in the middle of an epoch's end.
    options = {"min_peers": 0}
    alone = processes(**settings, options=options)
    alone.wait_event("published")
    alone.interrupt()
    alone.end(code=-signal.SIGINT)
    assert "KeyboardInterrupt" in alone.errors
    nodes = [processes(**settings)]
    assert nodes[0].wait_event("started")["origin"] == "checkpoint"
    nodes.append(processes(**{**settings, "home": str(tmp_path / "other"), "number": 1}))
    assert nodes[0].result()["result"] == nodes[1].result()["result"]


def test_the_end_of_the_interpreter_is_that_of_its_nodes(processes: Start, tmp_path: Path) -> None:
    folder = ["P2PFolder", {"federation": "alone", "listen": ["/ip4/127.0.0.1/tcp/0"], "no_mdns": True}]
    settings = {"folder": folder, "home": str(tmp_path / "home"), "number": 0}
    node = processes(**settings, abandon=True)
    lines = node.end()
    assert {"ended": 6} in lines
    assert node.errors.count("Traceback") == 0
    # The home is free, and has everything.
    again = processes(**settings)
    assert again.wait_event("started")["epoch"] == 6
    again.end()


def script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_an_interpreter_ends_while_a_thread_waits(tmp_path: Path) -> None:
    ended = script(
        """
        import sys, threading, numpy as np, peerfold
        published = threading.Event()
        node = peerfold.SyncFederatedNode(
            peerfold.LocalFolder(sys.argv[1]), num_nodes=2, min_peers=0, home=sys.argv[2],
            on_event=lambda event: event.name == "published" and published.set())
        weights = node.begin({"a": np.zeros(3)})
        def wait():
            try:
                node.update(weights, 1)
            except peerfold.Stopped:
                print("stopped", flush=True)
        threading.Thread(target=wait, daemon=True).start()
        published.wait()
        """,
        str(tmp_path / "shared"),
        str(tmp_path / "home"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "Fatal" not in ended.stderr


@pytest.mark.filterwarnings("ignore:This process")
def test_a_fork_is_refused_in_one_line_and_costs_its_parent_nothing(tmp_path: Path) -> None:
    with peerfold.AsyncFederatedNode(peerfold.LocalFolder(tmp_path / "shared"), home=tmp_path / "home") as node:
        node.begin(model())
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                node.update(model(), 1)
            except peerfold.ForkError as error:
                os.write(writing, str(error).encode())
            except BaseException as error:
                os.write(writing, repr(error).encode())
            node.close()
            del node
            os._exit(0)
        os.close(writing)
        assert os.waitpid(child, 0)[1] == 0
        with os.fdopen(reading) as told:
            message = told.read()
        assert message.startswith(f"this node belongs to process {os.getpid()}")
        assert "\n" not in message
        # The parent still has its home and its threads.
        with pytest.raises(peerfold.HomeError):
            peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), home=tmp_path / "home").begin(model())
        node.update(model(1), 1)
        assert node.epoch == 1


def test_a_child_of_fork_may_have_nodes_of_its_own_and_ends_as_it_likes(tmp_path: Path) -> None:
    ended = script(
        """
        import os, sys, numpy as np, peerfold
        node = peerfold.AsyncFederatedNode(peerfold.LocalFolder(sys.argv[1]))
        node.begin({"a": np.zeros(3)})
        if os.fork() == 0:
            own = peerfold.AsyncFederatedNode(peerfold.LocalFolder(sys.argv[1]))
            own.begin({"a": np.zeros(3)})
            own.update({"a": np.full(3, 4.0)}, 1)
            own.finish()
            # Its interpreter ends as that of any program: with all that is to be done then.
            sys.exit(0)
        print(os.wait()[1], os.path.isdir(node.home))
        print(node.update({"a": np.zeros(3)}, 1)["a"].tolist())
        node.finish()
        print(os.path.isdir(node.home))
        """,
        str(tmp_path / "shared"),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["0 True", "[2.0, 2.0, 2.0]", "False"], ended.stderr


def spawned(folder: peerfold.SharedFolder, home: Path, told: Any) -> None:
    """In a process of multiprocessing's "spawn"."""
    node = peerfold.AsyncFederatedNode(folder, home=home)
    node.begin(model())
    node.update(model(4), 1)
    node.finish()
    told.put("ended")


def test_folders_go_to_spawned_processes_and_nodes_do_not(tmp_path: Path) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    folder = peerfold.LocalFolder(tmp_path / "shared")
    with peerfold.AsyncFederatedNode(folder, home=tmp_path / "home") as node:
        node.begin(model())
        with pytest.raises(TypeError, match="make it in the process that uses it"):
            context.Process(target=print, args=(node,)).start()
        child = context.Process(target=spawned, args=(folder, tmp_path / "other", told))
        child.start()
        assert told.get(timeout=PATIENCE) == "ended"
        child.join(PATIENCE)
        assert node.update(model(0), 1)["dense.bias"].tolist() == [2, 2, 2]


def test_ctrl_c_in_the_middle_of_a_fold(tmp_path: Path) -> None:
    # A fold in Python that never ends by itself: it ends with the interpreter.
    program = textwrap.dedent(
        """
        import sys, threading, numpy as np, peerfold
        folder = peerfold.InMemoryFolder()
        def fold(updates):
            print("folding", flush=True)
            while True:
                threading.Event().wait(0.1)
        one, two = peerfold.AsyncFederatedNode(folder), peerfold.AsyncFederatedNode(folder, fold)
        weights = {"a": np.zeros(3)}
        one.update(weights, 1)
        two.begin(weights)
        try:
            two.update(weights, 1)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "folding\n"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "interrupted\n"), errors
    # It was told to end in its own code, and that was told as every exception of a rule is.
    assert "Stopped" in errors
