"""Arrays on their way to peers and back: what they may be, what is copied, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import model

import peerfold


def node(**options: Any) -> peerfold.AsyncFederatedNode:
    return peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), **options)


DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_as_it_was(dtype: str) -> None:
    given = {"a": np.arange(12).astype(dtype).reshape(3, 4), "none": np.zeros((0, 4), dtype), "one": np.ones((), dtype)}
    with node() as lone:
        came = lone.begin(given)
    for name, array in given.items():
        assert came[name].dtype == array.dtype
        assert came[name].shape == array.shape
        assert np.array_equal(came[name], array)


def test_bfloat16_has_its_own_bits() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes isn't installed")
    given = np.array([[1.5, -3.0], [0.1, 65280.0]], ml_dtypes.bfloat16)
    with node() as lone:
        came = lone.begin({"b": given})["b"]
    assert came.dtype == given.dtype
    assert came.tobytes() == given.tobytes()


def test_strides_and_byte_orders_make_no_difference() -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    given = {
        "columns": np.asfortranarray(plain),
        "part": plain[::2, 1:],
        "big": plain.astype(">f4"),
        "bigger": np.arange(3, dtype=">i8"),
        "again": np.broadcast_to(np.float32(3), (4, 5)),
        "back": plain[::-1, ::-1],
        "number": 2.5,
        "whole": np.ma.array([1.0, 2.0]),
        "list": [1.0, 2.0],
    }
    with node() as lone:
        came = lone.begin(given)
    for name, array in given.items():
        assert np.array_equal(came[name], np.asarray(array)), name


def test_names_may_have_any_characters() -> None:
    names = ["", " ", "a/b", "a.b[0]", "ä☃", "a\nb", "a\0b", "__metadata__", "..", "*", np.str_("text")]
    given = {str(name): np.full(2, number) for number, name in enumerate(names)}
    folder = peerfold.InMemoryFolder()
    with peerfold.AsyncFederatedNode(folder) as one, peerfold.AsyncFederatedNode(folder) as two:
        one.begin(given)
        one.update({name: array + 2 for name, array in given.items()}, 1)
        two.begin(given)
        came = two.update(given, 1)
    assert list(came) == list(given)
    # Integers are those of the newest.
    assert {name: array[0] for name, array in came.items()} == {name: array[0] for name, array in given.items()}


def test_ten_thousand_tensors_are_weights() -> None:
    given = {f"layer.{number}": np.full(3, number, np.float32) for number in range(10_000)}
    folder = peerfold.InMemoryFolder()
    with peerfold.AsyncFederatedNode(folder) as one, peerfold.AsyncFederatedNode(folder) as two:
        one.begin(given)
        two.begin(given)
        one.update(given, 1)
        came = two.update({name: array + 2 for name, array in given.items()}, 1)
    assert all((came[name] == array + 1).all() for name, array in given.items())


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "bf16"])
def test_first_weights_that_are_not_finite_are_told(dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    if dtype == "bf16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes isn't installed").bfloat16
    # The largest and the smallest numbers are finite.
    good = np.array([65504, -65504, 6e-8, 0, -0.0]).astype(dtype)
    for value, told in ((0.0, False), (np.inf, True), (-np.inf, True), (np.nan, True)):
        caplog.clear()
        with node() as lone:
            lone.begin({"good": good, "mask": np.array([0, value]).astype(dtype), "count": np.array(-1)})
        messages = [record.getMessage() for record in caplog.records]
        assert any("mask has numbers that aren't finite" in message for message in messages) == told


def test_the_order_of_names_is_the_programs() -> None:
    with node() as lone:
        came = lone.begin({"z": np.zeros(1), "a": np.ones(1)})
        assert list(came) == ["z", "a"]
        assert list(lone.update(came, 1)) == ["z", "a"]


def test_what_comes_may_be_written_to_unless_it_is_shared() -> None:
    with node() as lone:
        came = lone.begin(model())
        came["dense.bias"] += 1
        shared = lone.update(came, 1, copy=False)
        assert not shared["dense.bias"].flags.writeable
        assert shared["dense.bias"].flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            shared["dense.bias"] += 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            shared["dense.bias"].flags.writeable = True
        # It goes in again without a copy, and is the same.
        assert np.array_equal(lone.update(shared, 1)["dense.bias"], np.ones(3))


def test_what_the_program_changes_afterwards_is_not_what_was_published() -> None:
    with node() as lone:
        weights = lone.begin(model())
        lone.update(weights, 1)
        for array in weights.values():
            array[...] = 7
        assert np.array_equal(lone.weights()["dense.bias"], np.zeros(3))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"a": np.array([object()])}, "a: an array of object"),
        ({"a": np.array([1j])}, "a: an array of complex128"),
        ({"a": np.array(["text"])}, "a: an array of <U4"),
        ({"a": None}, "a: NoneType is no array"),
        ({"layer": {"a": np.zeros(1)}}, "layer: dict is no array: weights are a flat dict"),
        ({"a": [[1, 2], [3]]}, "a: this is no array"),
        ({"a": np.zeros(2, [("x", "f4")])}, "a: an array of"),
        ({"a": np.ma.array([1.0, 2.0], mask=[False, True])}, r"a: masked elements .* a.filled\(0\)"),
        ({1: np.zeros(2)}, "1 can't name a tensor"),
        ({b"a": np.zeros(2)}, "can't name a tensor"),
        ({"\ud800": np.zeros(2)}, "half of a character"),
        (None, "not NoneType"),
        ({}, "nothing to share"),
        ([np.zeros(2)], "not list"),
    ],
)
def test_what_is_no_weights_is_told(wrong: Any, told: str) -> None:
    lone = node()
    with pytest.raises(peerfold.WeightsError, match=told):
        lone.begin(wrong)
    # Nothing has happened.
    lone.begin(model())
    lone.finish()


def changed(name: str, array: Any) -> dict[str, Any]:
    return {**model(), name: array}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (changed("dense.bias", np.zeros(4, np.float32)), "dense.bias"),
        (changed("dense.bias", np.zeros(3, np.float16)), "dense.bias"),
        (changed("dense.bias", np.array([0, np.nan, 0], np.float32)), "dense.bias.*not finite at element 1"),
        (changed("dense.bias", np.array([0, 0, np.inf], np.float32)), "dense.bias.*not finite at element 2"),
        (changed("more", np.zeros(1)), "more"),
        ({"steps": np.array(0)}, "dense"),
    ],
)
def test_a_wrong_update_loses_nothing(wrong: dict[str, Any], told: str) -> None:
    lone = node()
    weights = lone.begin(model())
    weights = lone.update(changed("dense.bias", np.ones(3, np.float32)), 5, state=b"one")
    with pytest.raises(peerfold.WeightsError, match=told):
        lone.update(wrong, 5, state=b"two")
    assert lone.epoch == 1
    assert np.array_equal(lone.weights()["dense.bias"], np.ones(3))
    lone.update(weights, 5)
    assert lone.epoch == 2
    lone.finish()


@pytest.mark.parametrize("count", [-1, 1.5, True, float("nan"), 2**64, "many", None])
def test_a_wrong_count_is_told(count: Any) -> None:
    with node() as lone:
        lone.begin(model())
        with pytest.raises(peerfold.UsageError, match="is no count"):
            lone.update(model(), count)


def test_wrong_metrics_are_told() -> None:
    with node() as lone:
        lone.begin(model())
        with pytest.raises(peerfold.MetricsError, match="is no number"):
            lone.update(model(), 1, {"loss": "low"})
        with pytest.raises(peerfold.MetricsError, match="has over"):
            lone.update(model(), 1, {"l" * 1000: 1.0})
        with pytest.raises(peerfold.MetricsError, match="metrics are a dict of names to numbers, not list"):
            lone.update(model(), 1, [0.5])  # type: ignore[arg-type]
        with pytest.raises(peerfold.MetricsError, match="17 of them, but at most 16"):
            lone.update(model(), 1, {f"m{number}": 1.0 for number in range(17)})
        lone.update(model(), 1, {"loss": np.float32(0.5)})
        assert lone.epoch == 1


def test_what_frameworks_log_is_made_publishable(caplog: pytest.LogCaptureFixture) -> None:
    from peerfold import _metrics

    logged = {f"m{number}": np.float32(number) for number in range(20)}
    long = ["val_sparse_categorical_accuracy", "val_sparse_categorical_crossentropy", "ä" * 30]
    logged |= {name: 1.0 for name in long} | {"loss": 0.5, "text": "high", "none": None, "list": [1, 2]}
    figures = _metrics.publishable(logged, first=[*long, "loss"])
    assert len(figures) == _metrics.MAX_METRICS
    assert list(figures)[3] == "loss"
    assert "m12" in caplog.text
    assert _metrics.by_short(logged) == dict(zip(figures, long, strict=False))
    with node() as lone:
        lone.begin(model())
        lone.update(model(), 1, figures)
        assert lone.epoch == 1
    # One byte more is refused as it is.
    assert len(next(iter(figures))) == _metrics.MAX_NAME
    with node() as lone:
        lone.begin(model())
        with pytest.raises(peerfold.MetricsError, match=f"over {_metrics.MAX_NAME} bytes"):
            lone.update(model(), 1, {"l" * (_metrics.MAX_NAME + 1): 1.0})


@pytest.mark.parametrize("shares", [["dense.*"], lambda name: name.startswith("dense")])
def test_a_filter_says_what_is_shared(shares: Any) -> None:
    folder = peerfold.InMemoryFolder()
    one = peerfold.AsyncFederatedNode(folder, filter=shares)
    two = peerfold.AsyncFederatedNode(folder, filter=shares)
    mine, theirs = one.begin(model(0)), two.begin({**model(0), "own": np.ones(1)})
    assert list(theirs) == [*model(), "own"]
    one.update({**mine, **model(1), "steps": np.array(3)}, 1)
    folded = two.update({**theirs, **model(3), "steps": np.array(8), "own": np.array([9.0])}, 1)
    assert np.array_equal(folded["dense.bias"], np.full(3, 2))
    assert (folded["steps"], folded["own"]) == (8, 9)
    assert sorted(two.weights()) == ["dense.bias", "dense.weight"]
    one.finish()
    two.finish()
