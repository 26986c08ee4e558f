"""The examples, as they are run: two processes each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import PATIENCE

EXAMPLES = Path(__file__).parents[1] / "examples"
SHAKESPEARE = Path(os.environ.get("PEERFOLD_DATA", EXAMPLES.parents[2] / "shared" / "data")) / "tinyshakespeare"


def run(name: str, directory: Path, *arguments: str) -> list[str]:
    """What both nodes print."""
    nodes = [
        subprocess.Popen(
            [sys.executable, EXAMPLES / name, str(number), str(directory), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "jax"},
        )
        for number in (0, 1)
    ]
    printed = []
    for node in nodes:
        out, errors = node.communicate(timeout=PATIENCE)
        assert node.returncode == 0, errors
        printed.append(out)
    return printed


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("own_loop.py", []),
        ("torch_digits.py", ["torch"]),
        ("keras_digits.py", ["keras", "jax"]),
        ("lightning_digits.py", ["lightning"]),
        ("flower_digits.py", ["flwr"]),
    ],
)
def test_both_nodes_recognise_all_digits(name: str, needs: list[str], tmp_path: Path) -> None:
    if missing := [module for module in needs if find_spec(module) is None]:
        pytest.skip(f"{', '.join(missing)} isn't installed")
    for printed in run(name, tmp_path):
        accuracy = float(re.findall(r"accuracy ([0-9.]+)", printed)[-1])
        # Half of the digits would be 0.5.
        assert accuracy > 0.75, printed


def test_both_nodes_learn_to_write(tmp_path: Path) -> None:
    if find_spec("transformers") is None or find_spec("torch") is None:
        pytest.skip("transformers isn't installed")
    text = SHAKESPEARE / "input.txt.gz"
    if not text.exists():
        pytest.skip("tinyshakespeare isn't there")
    for printed in run("transformers_shakespeare.py", tmp_path, str(text)):
        assert float(re.findall(r"loss ([0-9.]+)", printed)[-1]) < 4.5
