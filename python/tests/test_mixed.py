"""One federation of nodes in several frameworks: PyTorch, Keras, and burn in `peerfold node`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mnist
import pytest
from conftest import Process, free_port

EXAMPLES = Path(__file__).parents[1] / "examples"
REPOSITORY = Path(__file__).parents[2]

#: Three programs start, import frameworks and compile at the same time.
PATIENCE = 400.0
EPOCHS, STEPS = 2, 20
NEEDS = {"torch": ["torch"], "keras": ["keras", "jax"]}


@pytest.fixture
def program() -> str:
    """The program `peerfold`, as cargo has built it, or as a wheel has brought it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    built = [target / profile / "peerfold" for profile in ("debug", "release")]
    found = next((str(path) for path in built if path.exists()), None) or shutil.which("peerfold")
    if found is None:
        pytest.skip("the program peerfold isn't built")
    return found


@pytest.fixture
def data() -> str:
    """The directory with MNIST's files."""
    directory = Path(os.environ.get("PEERFOLD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not list(directory.glob("**/t10k-images-idx3-ubyte*")):
        pytest.skip("MNIST isn't there")
    return str(directory)


@pytest.mark.parametrize("frameworks", [("torch", "keras"), ("keras", "keras")], ids="+".join)
def test_nodes_of_all_frameworks_end_with_equal_bits(
    frameworks: tuple[str, str], program: str, data: str, programs: Callable[..., Process], tmp_path: Path
) -> None:
    needed = sorted({module for framework in frameworks for module in NEEDS[framework]})
    if missing := [module for module in needed if find_spec(module) is None]:
        pytest.skip(f"{', '.join(missing)} isn't installed")

    def told(*arguments: str) -> str:
        return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()

    mnist.write(tmp_path / "first.safetensors", mnist.first())
    burn = str(tmp_path / "0")
    port = free_port()
    first = f"/ip4/127.0.0.1/tcp/{port}/p2p/{told(program, 'id', '--home', burn)}"

    def settings(number: int) -> list[str]:
        options: dict[str, Any] = {
            "federation": "mixed",
            "home": tmp_path / str(number),
            "init": tmp_path / "first.safetensors",
            "data-dir": data,
            "partition": f"{number}/3",
            "epochs": EPOCHS,
            "steps-per-epoch": STEPS,
            "start-deadline": PATIENCE,
            "out": tmp_path / f"{number}.safetensors",
            "listen": f"/ip4/127.0.0.1/tcp/{port if number == 0 else 0}",
        }
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return [*given, "--sync", *(["--bootstrap", first] if number else [])]

    only_here = ["--dataset", "mnist", "--nodes", "3", "--no-mdns", "--threads", "1", "--json"]
    nodes = [programs([program, "node", *settings(0), *only_here])]
    for number, framework in enumerate(frameworks, 1):
        script = str(EXAMPLES / f"mnist_{framework}.py")
        nodes.append(programs([sys.executable, script, *settings(number)], {"KERAS_BACKEND": "jax"}))
    lines = [node.end(patience=PATIENCE) for node in nodes]

    def events(number: int, name: str) -> list[dict[str, Any]]:
        return [line for line in lines[number] if line["event"] == name]

    # All began from the same weights, by the same settings, and folded all.
    assert [events(number, "mismatch") for number in range(3)] == [[], [], []]
    for number in range(3):
        assert [len(event["updates"]) for event in events(number, "folded")] == [3] * EPOCHS
    roots = [events(number, "finished")[0]["root"] for number in range(3)]
    assert roots == [roots[0]] * 3

    # What each framework has in its model at the end is what the node has saved.
    saved = tmp_path / "saved.safetensors"
    told(program, "model", "--home", burn, "--out", str(saved))
    weights = mnist.read(saved)
    for number in range(3):
        own = mnist.read(tmp_path / f"{number}.safetensors")
        assert {name: array.tobytes() for name, array in own.items()} == {
            name: array.tobytes() for name, array in weights.items()
        }

    # And it is as good as all of them say, by a program that knows nothing of them.
    command = [sys.executable, "-X", "importtime", str(EXAMPLES / "score_mnist.py"), str(saved), data]
    scored = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert not re.search(r"\b(peerfold|torch|keras|jax)\b", scored.stderr)
    accuracy = float(scored.stdout.removeprefix("accuracy "))
    # A guess is right in one of ten cases.
    assert accuracy > 0.5
    # Frameworks add in other orders: that may decide a few of the 10,000 images.
    said = [events(number, "finished")[0]["metrics"]["accuracy"] for number in range(3)]
    assert said == pytest.approx([accuracy] * 3, abs=0.002)
