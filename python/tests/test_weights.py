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
        "list": [1.0, 2.0],
    }
    with node() as lone:
        came = lone.begin(given)
    for name, array in given.items():
        assert np.array_equal(came[name], np.asarray(array)), name


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
        ({1: np.zeros(2)}, "1 can't name a tensor"),
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
        lone.update(model(), 1, {"loss": np.float32(0.5)})
        assert lone.epoch == 1


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
