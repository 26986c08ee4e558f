"""PyTorch, Keras, transformers and Lightning, where they are installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Recorder

import peerfold

os.environ.setdefault("KERAS_BACKEND", "jax")


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch", reason="torch isn't installed")
    module.manual_seed(0)
    module.set_num_threads(1)
    return module


def network(torch: Any) -> Any:
    """A model with an integer buffer and tied weights."""

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4, bias=False)
            self.norm = torch.nn.BatchNorm1d(4)
            self.last = torch.nn.Linear(4, 4)
            self.last.weight = self.first.weight

        def forward(self, x: Any) -> Any:
            return self.last(self.norm(self.first(x)))

    torch.manual_seed(7)
    return Model()


def train(torch: Any, model: Any, optimizer: Any, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 4, generator=generator)
    loss = (model(x) - 2 * x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_torchs_names_are_those_of_state_dict_and_tied_weights_are_once(torch: Any) -> None:
    from peerfold.torch import load, weights

    model = network(torch)
    names = list(weights(model))
    assert "first.weight" in names
    assert "last.weight" not in names
    assert "norm.num_batches_tracked" in names
    compiled = torch.compile(torch.nn.DataParallel(model))
    assert list(weights(compiled)) == names
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        assert list(weights(torch.nn.parallel.DistributedDataParallel(model))) == names
    finally:
        distributed.destroy_process_group()
    zeros = {name: np.zeros(tuple(value.shape)) for name, value in weights(model).items()}
    parameter = model.first.weight
    load(model, zeros)
    assert model.first.weight is parameter
    assert model.last.weight.abs().sum() == 0
    with pytest.raises(peerfold.WeightsError, match="no tensor other"):
        load(model, {"other": np.zeros(1)})
    with pytest.raises(peerfold.WeightsError, match="has the shape"):
        load(model, {"first.weight": np.zeros(1)})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_torchs_dtypes_are_folded_as_they_are(torch: Any, dtype: str) -> None:
    folder = peerfold.InMemoryFolder()
    one, two = peerfold.AsyncFederatedNode(folder), peerfold.AsyncFederatedNode(folder)
    kind = getattr(torch, dtype)
    start = {"w": torch.zeros(2, 3, dtype=kind), "n": torch.tensor(3)}
    one.begin(start)
    two.begin(start)
    one.update({"w": torch.full((2, 3), 1.0, dtype=kind).t().contiguous().t(), "n": torch.tensor(4)}, 10)
    folded = two.update({"w": torch.full((2, 3), 2.0, dtype=kind), "n": torch.tensor(5)}, 10)
    assert folded["w"].dtype == kind
    assert folded["w"].tolist() == [[1.5] * 3] * 2
    assert folded["n"].dtype == torch.int64
    folded["w"] += 1
    one.close()
    two.close()


def test_a_torch_program_resumes_with_its_optimizer(torch: Any, tmp_path: Path) -> None:
    from peerfold.torch import Federation

    def live(directory: Path, lives: list[int]) -> list[Any]:
        for last in lives:
            model = network(torch)
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
            node = peerfold.AsyncFederatedNode(peerfold.LocalFolder(directory / "shared"), home=directory / "home")
            federation = Federation(node, model, optimizer, scheduler)
            for epoch in federation.epochs(last):
                loss = train(torch, model, optimizer, epoch)
                scheduler.step()
                federation.epoch_end(16, {"loss": loss})
            node.close()
        return [value.tolist() for value in model.state_dict().values()]

    assert live(tmp_path / "interrupted", [2, 3, 5]) == live(tmp_path / "undisturbed", [5])


@pytest.mark.parametrize("kind", ["MultiStepLR", "OneCycleLR", "ReduceLROnPlateau", "SequentialLR", "LambdaLR"])
def test_a_schedule_goes_on_where_it_was(torch: Any, tmp_path: Path, kind: str) -> None:
    from peerfold.torch import Federation

    schedules = torch.optim.lr_scheduler
    make: Any = {
        "MultiStepLR": lambda optimizer: schedules.MultiStepLR(optimizer, [1, 3], gamma=0.1),
        "OneCycleLR": lambda optimizer: schedules.OneCycleLR(optimizer, 0.1, total_steps=8),
        "ReduceLROnPlateau": lambda optimizer: schedules.ReduceLROnPlateau(optimizer, patience=1),
        "SequentialLR": lambda optimizer: schedules.SequentialLR(
            optimizer, [schedules.MultiStepLR(optimizer, [1], 0.5), schedules.ExponentialLR(optimizer, 0.9)], [2]
        ),
        "LambdaLR": lambda optimizer: schedules.LambdaLR(optimizer, lambda epoch: 1 / (epoch + 1)),
    }[kind]

    def live(directory: Path, lives: list[int]) -> list[Any]:
        rates = []
        for last in lives:
            model = torch.nn.Linear(2, 2)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            scheduler = make(optimizer)
            node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), home=directory)
            federation = Federation(node, model, optimizer, scheduler)
            for _ in federation.epochs(last):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step(*([1.0] if kind == "ReduceLROnPlateau" else []))
                federation.epoch_end(1)
            node.close()
        return rates

    undisturbed = live(tmp_path / "undisturbed", [6])
    assert len(set(undisturbed)) > 1
    assert live(tmp_path / "interrupted", [2, 6]) == undisturbed


@pytest.mark.parametrize("kind", ["LBFGS", "Adam", "Muon", "ASGD"])
def test_an_optimizers_state_comes_back_whatever_is_in_it(torch: Any, kind: str) -> None:
    from peerfold.torch import load_optimizer_state, optimizer_state

    if not hasattr(torch.optim, kind):
        pytest.skip(f"this torch has no {kind}")
    model = torch.nn.Linear(4, 4, bias=False)
    # Learning rates may be tensors, and LBFGS keeps lists of tensors.
    options = {"lr": torch.tensor(0.01), "amsgrad": True} if kind == "Adam" else {"lr": 0.01}

    def make() -> Any:
        return getattr(torch.optim, kind)(model.parameters(), **options)

    def train(optimizer: Any) -> None:
        def loss() -> Any:
            optimizer.zero_grad()
            value = (model(torch.eye(4)) - 1).square().sum()
            value.backward()
            return value

        optimizer.step(loss)

    optimizer = make()
    for _ in range(3):
        train(optimizer)
    # As it comes back of a home.
    with peerfold.AsyncFederatedNode(peerfold.InMemoryFolder()) as node:
        came = node.begin(optimizer_state(optimizer))
    other = make()
    load_optimizer_state(other, came)
    weights = model.weight.detach().clone()
    train(optimizer)
    expected = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.copy_(weights)
    train(other)
    assert torch.equal(model.weight, expected)
    with pytest.raises(peerfold.CheckpointError, match="isn't one of this optimizer"):
        load_optimizer_state(torch.optim.SGD([torch.zeros(1), torch.zeros(2)], lr=1.0), came)


def test_what_is_no_model_of_torchs_is_told(torch: Any) -> None:
    from peerfold.torch import weights

    class Part(torch.Tensor):  # type: ignore[misc,name-defined]
        full_tensor = None

    sharded = torch.nn.Module()
    sharded.register_buffer("weight", torch.zeros(1).as_subclass(Part))
    for model, told in [
        (torch.nn.Linear(2, 2, device="meta"), "weight has no data yet"),
        (torch.nn.LazyLinear(2), "weight has no data yet"),
        (sharded, r"weight is sharded over several processes \(FSDP\)"),
    ]:
        with pytest.raises(peerfold.WeightsError, match=told):
            weights(model)
    with pytest.raises(TypeError, match=r"is no model: give a torch.nn.Module"):
        weights("model")
    from peerfold.torch import Federation

    with pytest.raises(peerfold.UsageError, match="this process has no node: give one to the Federation"):
        Federation(None, torch.nn.Linear(2, 2))
    node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder())
    with pytest.raises(peerfold.WeightsError, match="a: a tensor on the device meta"):
        node.begin({"a": torch.zeros(2, device="meta")})
    node.close()


def test_two_torch_models_learn_the_same_in_step(torch: Any, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from peerfold.torch import Federation

    folder = peerfold.InMemoryFolder()

    def live(number: int) -> list[Any]:
        model = network(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        federation = Federation(peerfold.SyncFederatedNode(folder, num_nodes=2), model, optimizer)
        for epoch in federation.epochs(3):
            train(torch, model, optimizer, 10 * number + epoch)
            federation.epoch_end(16)
        federation.finish()
        assert int(model.norm.num_batches_tracked) == 3
        return [value.tolist() for value in model.state_dict().values()]

    # A model is made from torch's one seed, so one after the other.
    network(torch)
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(live, range(2))
    assert one == two


def keras_model(keras: Any) -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.layers.Input(shape=(4,)),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    return model


def test_keras_federates_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="keras isn't installed")
    from peerfold.keras import FederatedCallback, weights

    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    y = x[:, :2] * 2
    assert list(weights(keras_model(keras)))[:2] == ["hidden/kernel", "hidden/bias"]
    assert "norm/moving_variance" in weights(keras_model(keras))

    def live(directory: Path, lives: list[int]) -> tuple[Any, Any]:
        recorder = Recorder()
        for last in lives:
            model = keras_model(keras)
            folder = peerfold.LocalFolder(directory / "shared")
            node = peerfold.AsyncFederatedNode(folder, home=directory / "home", on_event=recorder)
            callback = FederatedCallback(node, num_examples=len(x))
            # Keras logs as many as there are, and by long names.
            many = {f"val_sparse_categorical_accuracy_{number}": 1.0 for number in range(20)}
            logging = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs, many=many: logs.update(many))
            callbacks = [logging, callback]
            model.fit(x, y, epochs=last, batch_size=32, shuffle=False, verbose=0, callbacks=callbacks)
        epochs = [event.epoch for event in recorder.named("epoch_done")]
        return [array.tolist() for array in model.get_weights()], epochs

    undisturbed, epochs = live(tmp_path / "undisturbed", [5])
    assert epochs == [1, 2, 3, 4, 5]
    resumed, epochs = live(tmp_path / "resumed", [2, 5])
    assert epochs == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        np.concatenate([np.ravel(a) for a in resumed]), np.concatenate([np.ravel(a) for a in undisturbed]), rtol=1e-5
    )


def test_flwr_serverless_callback_tells_keras_federated_metrics(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="keras isn't installed")
    pytest.importorskip("h5py", reason="h5py isn't installed")
    flwr = pytest.importorskip("flwr.server.strategy", reason="flwr isn't installed")
    from peerfold.flwr_serverless import AsyncFederatedNode, LocalFolder
    from peerfold.flwr_serverless.keras import FlwrFederatedCallback

    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    folder = LocalFolder(directory=str(tmp_path))
    logs = []
    for _ in range(2):
        node = AsyncFederatedNode(shared_folder=folder, strategy=flwr.FedAvg())
        callback = FlwrFederatedCallback(
            node,
            num_examples_per_epoch=32,
            x_test=x,
            y_test=x[:, :2],
            save_model_before_aggregation=True,
            save_model_after_aggregation=True,
        )
        model = keras_model(keras)
        many = {"val_sparse_categorical_accuracy": 0.5} | {f"metric_{number}": 1.0 for number in range(20)}
        logging = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs, many=many: logs.update(many))
        model.fit(x, x[:, :2], epochs=2, verbose=0, callbacks=[logging, callback])
        logs.append(callback.logs)
        raw = folder.get_raw_folder()
        for when in ("before", "after"):
            assert b"loss" in raw[f"keras/{node.node_id}/metrics_{when}_aggregation_00001.json"]
            assert raw[f"keras/{node.node_id}/model_{when}_aggregation_00001.h5"]
    assert logs[0]["loss_fed"] == logs[0]["loss"]
    # Names are as long as Keras has them.
    assert logs[1]["val_sparse_categorical_accuracy_fed"] == 0.5
    assert logs[1]["num_nodes_fed"] == 2
    assert logs[1]["num_examples_fed"] == 64


def test_transformers_trainer_federates(torch: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers isn't installed")
    pytest.importorskip("accelerate", reason="accelerate isn't installed")
    from peerfold.transformers import FederatedCallback

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=32)
    generator = torch.Generator().manual_seed(0)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 32, (16, 8), generator=generator)]

    def live(home: str, last: int) -> tuple[Any, Recorder]:
        recorder = Recorder()
        transformers.set_seed(1)
        model = transformers.GPT2LMHeadModel(config)
        args = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            num_train_epochs=last,
            per_device_train_batch_size=4,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
            disable_tqdm=True,
        )
        folder = peerfold.LocalFolder(tmp_path / "shared")
        node = peerfold.AsyncFederatedNode(folder, home=tmp_path / home, on_event=recorder)
        transformers.Trainer(model=model, args=args, train_dataset=data, callbacks=[FederatedCallback(node)]).train()
        return model, recorder

    _, first = live("one", 2)
    assert [event.epoch for event in first.named("epoch_done")] == [1, 2]
    assert [event.num_examples for event in first.named("published")] == [16, 16]
    assert "loss" in first.named("epoch_done")[0].metrics
    # Another node begins from its weights, and the first goes on after its end.
    _, second = live("two", 4)
    assert second.named("started")[0].origin == "fold"
    assert second.named("folded")
    model, third = live("one", 4)
    assert third.named("started")[0].origin == "checkpoint"
    assert [event.epoch for event in third.named("epoch_done")] == [3, 4]
    # Tied weights stay tied.
    assert model.lm_head.weight is model.transformer.wte.weight


def test_lightning_federates(torch: Any, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning isn't installed")
    from peerfold.lightning import FederatedCallback

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = network(torch)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = (self.model(batch[0]) - batch[0]).square().mean()
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=8)

    def live(last: int) -> Recorder:
        recorder = Recorder()
        folder = peerfold.LocalFolder(tmp_path / "shared")
        node = peerfold.AsyncFederatedNode(folder, home=tmp_path / "home", on_event=recorder)
        lightning.Trainer(
            max_epochs=last,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[FederatedCallback(node)],
        ).fit(Module(), data)
        return recorder

    first = live(2)
    assert [event.num_examples for event in first.named("published")] == [24, 24]
    assert "loss" in first.named("epoch_done")[0].metrics
    assert [event.epoch for event in live(4).named("epoch_done")] == [3, 4]
    # Nothing is left.
    assert live(4).named("epoch_done") == []


def test_a_trainer_made_anew_trains_what_is_left(torch: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers isn't installed")
    pytest.importorskip("accelerate", reason="accelerate isn't installed")
    from peerfold.transformers import FederatedCallback

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=32)
    generator = torch.Generator().manual_seed(0)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 32, (16, 8), generator=generator)]

    def live(home: str, every_steps: int | None = None, **settings: Any) -> tuple[Any, list[Any], float]:
        recorder = Recorder()
        transformers.set_seed(1)
        model = transformers.GPT2LMHeadModel(config)
        args = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=4,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        node = peerfold.AsyncFederatedNode(peerfold.InMemoryFolder(), home=tmp_path / home, on_event=recorder)
        callback = FederatedCallback(node, every_steps=every_steps)
        trainer = transformers.Trainer(model=model, args=args, train_dataset=data, callbacks=[callback])
        trainer.train()
        weights = [value.tolist() for value in model.state_dict().values()]
        rate = trainer.lr_scheduler.get_last_lr()[0]
        return weights, [event.epoch for event in recorder.named("epoch_done")], rate

    # Four steps are an epoch: `max_steps` is what counts where it is given.
    first, epochs, rate = live("epochs", max_steps=16)
    assert (epochs, rate) == ([1, 2, 3, 4], 0)
    # Nothing is left, and nothing changes.
    again, epochs, _ = live("epochs", max_steps=16)
    assert epochs == []
    assert again == first
    _, epochs, rate = live("epochs", max_steps=20)
    assert epochs == [5]
    # The schedule has gone on where it was: at its end.
    assert rate == 0
    assert live("steps", every_steps=2, max_steps=4)[1] == [1, 2]
    assert live("steps", every_steps=2, max_steps=8)[1] == [3, 4]
    assert live("steps", every_steps=2, max_steps=8)[1] == []
