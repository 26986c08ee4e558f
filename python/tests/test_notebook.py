"""A notebook, as Jupyter runs it: a kernel that has an event loop, and is interrupted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE

nbclient = pytest.importorskip("nbclient", reason="nbclient isn't installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat isn't installed")
pytest.importorskip("ipykernel", reason="ipykernel isn't installed")

README = Path(__file__).parents[1] / "README.md"

PREPARED = """
import os, signal
import numpy as np
def train(weights):
    return {"a": weights["a"] + 1}
data, loss, weights = [0] * 10, 1.0, {"a": np.zeros(3)}
"""

INTERRUPTS = """
def interrupt(event):
    # As Jupyter does.
    if event.name == "waiting":
        os.kill(os.getpid(), signal.SIGINT)
node = peerfold.SyncFederatedNode(peerfold.LocalFolder("two"), num_nodes=2, home="two-a", on_event=interrupt, **options)
"""


def run(cells: list[str], directory: Path) -> list[Any]:
    """What the cells give: the text of each, and its error."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(directory)}}
    client = nbclient.NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", allow_errors=True, resources=resources
    )
    client.execute()
    given = []
    for cell in notebook.cells:
        texts = [output.get("text", "") for output in cell.outputs if output.get("name") == "stdout"]
        errors = [f"{output.ename}: {output.evalue}" for output in cell.outputs if output.output_type == "error"]
        given.append(("".join(texts), *errors))
    return given


def test_the_five_lines_of_the_readme_run_in_cells(tmp_path: Path) -> None:
    found = re.search(r"## Five lines.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    program, count = re.subn(r"peerfold\.P2PFolder\(.*\)", 'peerfold.LocalFolder("shared")', found[1])
    assert count == 1
    told = run([PREPARED, program, "print(weights, node.home)", program, "print(weights)"], tmp_path)
    assert [len(cell) for cell in told] == [1] * 5, told
    assert told[2] == ("{'a': array([20., 20., 20.])} node-a\n",)
    # Run again it goes on where it was, which is the end.
    assert told[4] == ("{'a': array([20., 20., 20.])}\n",)


def test_asynchronous_forms_run_at_the_top_of_a_cell(tmp_path: Path) -> None:
    program = """
import peerfold
node = peerfold.AsyncFederatedNode(peerfold.LocalFolder("shared"), home="node-a")
weights = await node.begin_async(weights)
for epoch in node.epochs(3):
    weights = await node.update_async(train(weights), num_examples=10)
await node.finish_async()
print(weights)
"""
    assert run([PREPARED, program], tmp_path)[1] == ("{'a': array([3., 3., 3.])}\n",)


def test_interrupting_the_kernel_ends_a_wait_and_loses_nothing(tmp_path: Path) -> None:
    cells = [
        PREPARED,
        "import peerfold\noptions = {'min_peers': 0}",
        INTERRUPTS,
        "weights = node.begin(weights)",
        "weights = node.update(train(weights), 10)",
        # The cell again: the node is stopped, and it says what to do.
        "weights = node.update(train(weights), 10)",
        INTERRUPTS,
        "weights = await node.begin_async(weights)",
        "print(node.is_stopped)",
        INTERRUPTS.replace("on_event=interrupt", "below_quorum='alone', deadline=1"),
        "weights = node.begin(weights); print(node.origin, node.epoch, weights)",
    ]
    told = run(cells, tmp_path)
    assert told[4][1] == "KeyboardInterrupt: "
    assert "make the node anew in its home" in told[5][1]
    # It waits for the epoch that was published, and is interrupted again.
    assert told[7][1].startswith(("KeyboardInterrupt", "CancelledError")), told
    assert told[8][0] == "True\n"
    assert told[10] == ("checkpoint 1 {'a': array([1., 1., 1.])}\n",)
