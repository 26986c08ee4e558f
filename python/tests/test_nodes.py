"""Nodes of one process: their life, in memory and in a directory, their options, events, and the async forms."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE, Recorder, model

import peerfold


def in_threads(count: int, work: Any) -> list[Any]:
    """What `work(number)` gives in as many threads."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def folder_of(kind: str, directory: Path) -> peerfold.SharedFolder:
    return peerfold.InMemoryFolder() if kind == "memory" else peerfold.LocalFolder(directory / "shared", run="2")


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_synchronous_nodes_hold_equal_bits(kind: str, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path)

    def live(number: int) -> Any:
        node = peerfold.SyncFederatedNode(folder, peerfold.FedAvgM(server_momentum=0.9), 3)
        weights = node.begin(model())
        draw = np.random.default_rng(number)
        for _ in node.epochs(4):
            weights = {
                name: array + draw.normal(size=array.shape).astype(array.dtype) for name, array in weights.items()
            }
            weights = node.update(weights, 10 + number)
        node.finish()
        return weights

    first, *others = in_threads(3, live)
    assert np.abs(first["dense.weight"]).sum() > 0
    for other in others:
        assert all(other[name].tobytes() == first[name].tobytes() for name in first)


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_asynchronous_nodes_fold_each_other(kind: str, tmp_path: Path, recorder: Recorder) -> None:
    folder = folder_of(kind, tmp_path)
    with (
        peerfold.AsyncFederatedNode(folder, home=tmp_path / "one") as one,
        peerfold.AsyncFederatedNode(folder, home=tmp_path / "two", on_event=recorder) as two,
    ):
        one.begin(model())
        two.begin(model())
        assert one.peer_id != two.peer_id
        one.update(model(1), 10, {"loss": 0.5})
        assert np.array_equal(two.update(model(4), 20)["dense.bias"], np.full(3, 3))
        two.evaluated({"accuracy": 0.75})
    folded = recorder.named("folded")[0]
    assert folded.epoch == folded["epoch"] == 1
    assert [update["own"] for update in folded.updates] == [True, False]
    done = recorder.named("epoch_done")[0]
    assert done.metrics == {"accuracy": 0.75}
    assert recorder.named("finished")[0].stopped is False
    with pytest.raises(AttributeError, match="has no field 'colour'"):
        _ = folded.colour


def test_a_newcomer_begins_from_what_is_there() -> None:
    folder = peerfold.InMemoryFolder()
    with peerfold.AsyncFederatedNode(folder) as one:
        one.begin(model())
        for _ in one.epochs(3):
            one.update(model(5), 10)
        with peerfold.AsyncFederatedNode(folder) as two:
            weights = two.begin(model())
            assert (two.origin, two.epoch) == ("fold", 3)
            assert np.array_equal(weights["dense.bias"], np.full(3, 5))
            assert list(two.epochs(3)) == []


def test_a_node_made_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = peerfold.LocalFolder(tmp_path / "shared")
    arrays = {"m": np.arange(3, dtype=np.float32), "t": np.array(7)}
    states: list[Any] = [b"", b"bytes", arrays, None]
    for number, state in enumerate(states):
        node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home")
        weights = node.begin(model(), state=b"first")
        if number == 0:
            assert (node.origin, node.state) == ("seed", None)
        else:
            assert (node.origin, node.epoch) == ("checkpoint", number)
            assert np.array_equal(weights["dense.bias"], np.full(3, number))
            before = states[number - 1]
            if isinstance(before, dict):
                assert isinstance(node.state, dict)
                assert all(np.array_equal(node.state[name], before[name]) for name in before)
            else:
                assert node.state == before
        node.update(model(number + 1), 1, state=state)
        node.close()
    node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home")
    node.begin(model())
    assert not node.state
    node.close()


def test_the_middle_of_an_epoch_comes_back(tmp_path: Path, recorder: Recorder) -> None:
    def again(recipe: dict[str, object]) -> peerfold.AsyncFederatedNode:
        folder = peerfold.LocalFolder(tmp_path / "shared")
        node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home", recipe=recipe, on_event=recorder)
        node.begin(model())
        return node

    node = again({"lr": 0.1})
    assert next(node.epochs(2)) == 1
    assert node.middle() is None
    node.save_progress(model(2), 40, b"middle")
    node.close()
    node = again({"lr": 0.1})
    assert next(node.epochs(2)) == 1
    middle = node.middle()
    assert middle is not None
    assert (middle.step, middle.state) == (40, b"middle")
    assert np.array_equal(middle.weights["dense.bias"], np.full(3, 2))
    node.save_progress(model(3), 41, None)
    node.close()
    node = again({"lr": 0.2})
    assert next(node.epochs(2)) == 1
    assert node.middle() is None
    node.close()
    assert "lr was 0.1 and is 0.2" in recorder.named("progress_dropped")[0].reason


def test_a_loop_that_never_begins_begins_with_its_first_update(tmp_path: Path) -> None:
    node = peerfold.AsyncFederatedNode(peerfold.LocalFolder(tmp_path / "shared"), home=tmp_path / "home")
    node.update(model(1), 3)
    node.update(model(2), 3)
    node.close()
    node = peerfold.AsyncFederatedNode(peerfold.LocalFolder(tmp_path / "shared"), home=tmp_path / "home")
    with pytest.raises(peerfold.UsageError, match="goes on from epoch 2"):
        node.update(model(9), 3)


def test_an_epoch_that_is_not_ended_is_told() -> None:
    node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder())
    node.begin(model())
    with pytest.raises(peerfold.UsageError, match="epoch 1 was not ended"):
        for _ in node.epochs(3):
            pass
    for last in (-1, 2.0, None):
        with pytest.raises(peerfold.UsageError, match="is no number of an epoch: give a whole number"):
            next(node.epochs(last))  # type: ignore[arg-type]
    node.close()


def test_calls_at_the_wrong_time_are_told() -> None:
    node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder())
    with pytest.raises(peerfold.UsageError, match="has not begun"):
        _ = node.epoch
    node.begin(model())
    with pytest.raises(peerfold.UsageError, match="has begun already"):
        node.begin(model())
    node.close()
    node.close()
    with pytest.raises(peerfold.UsageError, match="is closed"):
        node.update(model(), 1)


def test_a_home_belongs_to_one_node(tmp_path: Path) -> None:
    with peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), home=tmp_path) as one:
        one.begin(model())
        two = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), home=tmp_path)
        with pytest.raises(peerfold.HomeError, match="in use"):
            two.begin(model())
        two.close()


def test_another_models_checkpoint_is_told(tmp_path: Path) -> None:
    folder = peerfold.LocalFolder(tmp_path / "shared")
    with peerfold.AsyncFederatedNode(folder, home=tmp_path / "home") as node:
        node.begin(model())
    node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home")
    with pytest.raises(peerfold.CheckpointError):
        node.begin({"other": np.zeros(3)})
    node.close()


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    folder = peerfold.LocalFolder(tmp_path / "shared")
    with peerfold.AsyncFederatedNode(folder, home=tmp_path / "home") as node:
        node.begin(model())
        node.update(model(1), 1, state=b"state" * 100)
    heads = [path for path in (tmp_path / "home" / "runs").rglob("checkpoint*") if path.is_file()]
    assert heads
    for head in heads:
        head.write_bytes(head.read_bytes()[:-3])
    node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home")
    with pytest.raises(peerfold.CheckpointError, match="damaged"):
        node.begin(model())
    node.close()


def test_a_damaged_update_of_a_peer_is_an_event(tmp_path: Path, recorder: Recorder) -> None:
    folder = peerfold.LocalFolder(tmp_path / "shared")
    one = peerfold.AsyncFederatedNode(folder, home=tmp_path / "one")
    two = peerfold.AsyncFederatedNode(folder, home=tmp_path / "two", on_event=recorder)
    one.begin(model())
    two.begin(model())
    one.update(model(1), 1)
    large = sorted(
        (path for path in (tmp_path / "shared").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    for path in large:
        if b"\x00\x00\x80\x3f" * 3 in path.read_bytes():
            path.write_bytes(path.read_bytes()[:-5])
    mine = two.update(model(3), 1)
    assert np.array_equal(mine["dense.bias"], np.full(3, 3))
    one.close()
    two.close()
    assert recorder.named("rejected") or recorder.named("not_folded")


def test_peers_of_another_layout_or_dtype_are_told(recorder: Recorder) -> None:
    folder = peerfold.InMemoryFolder()
    one = peerfold.AsyncFederatedNode(folder)
    two = peerfold.AsyncFederatedNode(folder, on_event=recorder)
    half = {name: array.astype(np.float16) for name, array in model().items()}
    one.begin(half)
    two.begin(model())
    one.update(half, 1)
    assert np.array_equal(two.update(model(2), 1)["dense.bias"], np.full(3, 2))
    one.finish()
    two.finish()
    assert "names, shapes and dtypes of all shared tensors must be equal" in recorder.wait("rejected").reason


def test_events_speak_of_options_and_not_of_flags(tmp_path: Path, recorder: Recorder) -> None:
    folder = peerfold.P2PFolder("nobody", listen=["/ip4/127.0.0.1/tcp/0"], no_mdns=True)
    with peerfold.AsyncFederatedNode(folder, home=tmp_path / "home", on_event=recorder) as node:
        node.begin(model())
        reason = recorder.wait("alone").reason
    assert "(no_mdns)" in reason
    assert "--" not in reason


def test_options_are_checked_when_a_node_is_made(tmp_path: Path) -> None:
    folder = peerfold.InMemoryFolder()
    with pytest.raises(TypeError, match="did you mean min_peers"):
        peerfold.AsyncFederatedNode(folder, min_peer=1)  # type: ignore[call-arg]
    for options, told in [
        ({"participation": 2.0}, "participation = 2: must be a probability"),
        ({"participation": float("nan")}, "participation"),
        ({"min_peers": -1}, "min_peers = -1: write a whole number"),
        ({"min_peers": True}, "min_peers = True"),
        ({"start_deadline": "soon"}, "start_deadline = 'soon': write a number of seconds"),
        ({"cache_quota": "much"}, "cache_quota"),
        ({"suspect": "shoot"}, "suspect"),
        ({"allow": ["nobody"]}, "allow"),
    ]:
        with pytest.raises(peerfold.SettingError, match=told):
            peerfold.AsyncFederatedNode(folder, **options)
    good: dict[str, Any] = {"start_deadline": "90s", "cache_quota": "1GiB", "suspect": "leave-out", "min_peers": None}
    peerfold.AsyncFederatedNode(folder, **good).close()
    with pytest.raises(peerfold.SettingError, match="only 2 nodes"):
        peerfold.SyncFederatedNode(folder, num_nodes=2, quorum=3)
    with pytest.raises(TypeError, match="num_nodes"):
        peerfold.SyncFederatedNode(folder)
    with pytest.raises(peerfold.SettingError, match="secret"):
        peerfold.AsyncFederatedNode(peerfold.P2PFolder("f", secret=tmp_path / "none"), home=tmp_path)
    with pytest.raises(peerfold.SettingError, match="folder"):
        peerfold.AsyncFederatedNode(peerfold.S3Folder("b//x?"), home=tmp_path)
    with pytest.raises(peerfold.SettingError, match="federation = None: give a name"):
        peerfold.P2PFolder(None)  # type: ignore[arg-type]
    with pytest.raises(peerfold.SettingError, match="directory = ''"):
        peerfold.LocalFolder("")
    wrong: dict[str, Any]
    for wrong, told in [
        ({"seed": -1}, "seed = -1: give a whole number"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"recipe": 3}, "recipe = 3: give a dict"),
        ({"filter": 3}, "filter = 3: give patterns"),
        ({"filter": [3]}, "give patterns"),
    ]:
        with pytest.raises(peerfold.SettingError, match=told):
            peerfold.AsyncFederatedNode(folder, **wrong)
    with pytest.raises(TypeError, match="on_event = 3: give a function"):
        peerfold.AsyncFederatedNode(folder, on_event=3)  # type: ignore[arg-type]
    peerfold.AsyncFederatedNode(folder, seed=np.int64(3)).close()  # type: ignore[arg-type]


class Own:
    """What a stranger may take for a folder."""

    def items(self) -> list[Any]:
        return []


class Derived(peerfold.SharedFolder):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("folder", ["folder", Own(), Derived(), peerfold.InMemoryFolder, None])
def test_a_folder_of_ones_own_is_refused_in_one_line(folder: Any) -> None:
    with pytest.raises(
        TypeError, match=r"is no shared folder: give a P2PFolder.* class of your own can't be used"
    ) as told:
        peerfold.AsyncFederatedNode(folder)
    assert "\n" not in str(told.value)


def test_nodes_and_memory_are_not_copied_and_other_folders_are() -> None:
    import copy
    import pickle

    node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder())
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a node can't be copied or pickled: make it in the process that uses it"):
            copied(node)
        with pytest.raises(TypeError, match="an InMemoryFolder can't be copied or pickled"):
            copied(peerfold.InMemoryFolder())
    node.close()
    for folder in (peerfold.LocalFolder("here", run="2"), peerfold.P2PFolder("f"), peerfold.S3Folder("b/p")):
        assert repr(pickle.loads(pickle.dumps(folder))) == repr(folder)
    event = peerfold.Event({"event": "folded", "epoch": 1})
    assert pickle.loads(pickle.dumps(event)).epoch == 1
    assert repr(pickle.loads(pickle.dumps(peerfold.FedAvg(max_share=0.5)))) == "peerfold.FedAvg(max_share='0.5')"


def test_a_home_that_this_process_has_is_told_so(tmp_path: Path) -> None:
    # As in a notebook whose cell was run again.
    folder = peerfold.InMemoryFolder()
    first = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home")
    first.begin(model())
    second = peerfold.AsyncFederatedNode(folder, home=f"{tmp_path}/./home")
    for call in (lambda: second.begin(model()), lambda: second.peer_id):
        with pytest.raises(peerfold.HomeError, match=r"by another node of this process: close\(\) that one"):
            call()
    first.stop()
    # What is stopped does nothing any more, even if something refers to it, as an exception does.
    second.begin(model())
    with pytest.raises(peerfold.UsageError, match="is closed"):
        _ = first.epoch
    second.close()


def test_only_the_allowed_are_folded(tmp_path: Path) -> None:
    folder = peerfold.InMemoryFolder()
    nobody = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7"
    with (
        peerfold.AsyncFederatedNode(folder) as one,
        peerfold.AsyncFederatedNode(folder, allow=[nobody]) as two,
    ):
        one.begin(model())
        two.begin(model())
        one.update(model(9), 1)
        assert np.array_equal(two.update(model(1), 1)["dense.bias"], np.ones(3))


def test_a_stop_of_another_thread_ends_a_wait() -> None:
    recorder = Recorder()
    node = peerfold.SyncFederatedNode(peerfold.InMemoryFolder(), num_nodes=2, min_peers=0, on_event=recorder)
    node.begin(model())

    def stop() -> None:
        recorder.wait("published")
        node.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(peerfold.Stopped):
        node.update(model(1), 1)
    stopper.join()
    assert node.is_stopped
    assert list(node.epochs(5)) == []
    with pytest.raises(peerfold.Stopped, match="make the node anew in its home"):
        node.update(model(1), 1)
    node.close()


def test_another_thread_can_train_while_one_waits() -> None:
    recorder = Recorder()
    folder = peerfold.InMemoryFolder()
    node = peerfold.SyncFederatedNode(folder, num_nodes=2, min_peers=0, on_event=recorder)
    node.begin(model())
    waiting = threading.Thread(target=lambda: node.update(model(1), 1))
    waiting.start()
    # This thread runs on: the GIL is free.
    recorder.wait("published")
    with pytest.raises(peerfold.UsageError, match="in another call"):
        _ = node.epoch
    other = peerfold.SyncFederatedNode(folder, num_nodes=2, min_peers=0)
    other.begin(model())
    assert np.array_equal(other.update(model(3), 1)["dense.bias"], np.full(3, 2))
    waiting.join()
    node.finish()
    other.finish()


def test_events_are_logged_and_a_failing_callback_is_too(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: peerfold.Event) -> None:
        if event.name == "started":
            raise RuntimeError("no paper")

    with (
        caplog.at_level(logging.DEBUG, logger="peerfold"),
        peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), on_event=fail) as node,
    ):
        node.begin(model())
        node.update(model(1), 1)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert any(level == "INFO" and text.startswith("epoch_done: epoch=1") for level, text in messages)
    assert any(level == "WARNING" and text.startswith("alone:") for level, text in messages)
    # Others are slower, or there are none: no trouble of this node's.
    assert any(level == "INFO" and text.startswith("not_folded:") for level, text in messages)
    failed = next(record for record in caplog.records if record.levelname == "ERROR")
    assert "callback for events has failed at started" in failed.getMessage()
    assert failed.exc_info is not None


def test_two_nodes_of_one_event_loop() -> None:
    folder = peerfold.InMemoryFolder()

    async def live(value: float) -> Any:
        node = peerfold.SyncFederatedNode(folder, num_nodes=2)
        await node.begin_async(model())
        weights = await node.update_async(model(value), 1)
        await node.finish_async()
        return weights

    async def both() -> Any:
        return await asyncio.gather(live(1), live(3))

    one, two = asyncio.run(both())
    assert one["dense.bias"].tolist() == two["dense.bias"].tolist() == [2, 2, 2]


def test_cancelling_a_wait_stops_the_node(recorder: Recorder) -> None:
    async def cancelled() -> bool:
        node = peerfold.SyncFederatedNode(peerfold.InMemoryFolder(), num_nodes=2, min_peers=0, on_event=recorder)
        await node.begin_async(model())
        task = asyncio.create_task(node.update_async(model(1), 1))
        await asyncio.to_thread(recorder.wait, "published")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stopped = node.is_stopped
        node.close()
        return stopped

    assert asyncio.run(cancelled())


def test_what_the_native_half_logs_comes_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warned = threading.Event()

    class Warned(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "can't be reached" in record.getMessage():
                assert (record.levelno, record.name) == (logging.WARNING, "peerfold.p2p.network.discovery")
                warned.set()

    handler = Warned()
    logging.getLogger("peerfold").addHandler(handler)
    try:
        nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu"
        folder = peerfold.P2PFolder("logs", bootstrap=[nobody], listen=["/ip4/127.0.0.1/tcp/0"], no_mdns=True)
        with peerfold.AsyncFederatedNode(folder, home=tmp_path / "home") as node:
            node.begin(model())
            assert warned.wait(PATIENCE), caplog.text
    finally:
        logging.getLogger("peerfold").removeHandler(handler)
