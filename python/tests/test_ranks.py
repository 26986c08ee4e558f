"""Distributed training: two processes of PyTorch's DDP, of which one has the node, and a peer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE, free_port

import peerfold

pytest.importorskip("torch", reason="torch isn't installed")

RANKS = Path(__file__).with_name("ranks.py")


def both(directory: Path, by: str, **settings: Any) -> list[list[dict[str, Any]]]:
    """What the two processes tell."""
    told = {"by": by, "folder": str(directory / "shared"), "home": str(directory / "home"), **settings}
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, RANKS, json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    lines = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            lines.append([json.loads(line) for line in out.splitlines() if line.startswith('{"rank"')])
    finally:
        for process in processes:
            process.kill()
    return lines


def without_rank(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "rank"} for line in lines]


def test_all_ranks_have_what_was_folded_and_resume_together(tmp_path: Path) -> None:
    def live(directory: Path, lives: list[int]) -> list[dict[str, Any]]:
        # A peer, whose update is folded after each epoch.
        shapes = {"0.weight": (4, 4), "0.bias": 4, "1.weight": 4, "1.bias": 4, "1.running_mean": 4, "1.running_var": 4}
        theirs: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        theirs["1.num_batches_tracked"] = np.array(0)
        with peerfold.AsyncFederatedNode(peerfold.LocalFolder(directory / "shared"), home=directory / "peer") as peer:
            peer.begin(theirs)
            told = []
            for number, last in enumerate(lives):
                zero, one = both(directory, "torch", epochs=last, alike=number > 0)
                assert without_rank(zero) == without_rank(one)
                assert [line["ended"] for line in zero if "ended" in line] == list(
                    range(zero[0]["begun"] + 1, last + 1)
                )
                told += without_rank(zero)
                if number == 0:
                    peer.update(theirs, 16)
        return told

    # The second life folds the peer's update: then all have it.
    resumed = live(tmp_path / "resumed", [2, 3])
    begun = resumed[3]
    assert begun["begun"] == 2
    assert begun["rate"] == [0.0025]
    # What the optimizer had comes back in both.
    assert begun["moments"] == resumed[2]["moments"] != []
    assert begun["weights"] == resumed[2]["weights"]
    assert len(resumed) == 5
    # A mean with the peer's ones: alone it would be near 0.
    assert resumed[4]["weights"]["0.weight"] > 4


def test_what_goes_wrong_at_rank_0_is_told_to_all(tmp_path: Path) -> None:
    zero, one = both(tmp_path, "torch", epochs=1, breaks=True)
    assert "not finite" in zero[-1]["error"]
    assert one[-1]["error"] == f"in the process of rank 0: {zero[-1]['error']}"


@pytest.mark.parametrize("by", ["transformers", "lightning"])
def test_trainers_of_two_ranks(by: str, tmp_path: Path) -> None:
    needs = ["transformers", "accelerate"] if by == "transformers" else ["lightning"]
    if missing := [module for module in needs if find_spec(module) is None]:
        pytest.skip(f"{', '.join(missing)} isn't installed")
    zero, one = both(tmp_path, by, epochs=2)
    assert without_rank(zero) == without_rank(one)
    assert [line["trained"] for line in zero if "trained" in line] == [4]
    # All are made anew, and go on at the end of the second epoch.
    zero, one = both(tmp_path, by, epochs=3)
    assert without_rank(zero) == without_rank(one)
    assert [line["trained"] for line in zero if "trained" in line] == [2]
