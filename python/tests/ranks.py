"""One of two processes that train one model together, by PyTorch's DDP. Tells in JSON what it has after each epoch."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch

import peerfold

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
RANK = int(os.environ["RANK"])


def tell(line: dict[str, Any]) -> None:
    """A line of output."""
    os.write(1, (json.dumps({"rank": RANK, **line}) + "\n").encode())


def digest(model: Any, optimizer: Any = None) -> dict[str, Any]:
    """What tells equal models."""
    from peerfold.torch import unwrapped, weights

    values = {name: value.double().sum().item() for name, value in weights(unwrapped(model)).items()}
    states = [] if optimizer is None else list(optimizer.state_dict()["state"].values())
    return {"weights": values, "moments": [float(state["exp_avg"].double().sum()) for state in states]}


def node_of(settings: dict[str, Any]) -> peerfold.FederatedNode:
    """Made alike in both; only that of rank 0 does anything."""
    return peerfold.AsyncFederatedNode(peerfold.LocalFolder(settings["folder"]), home=settings["home"])


def by_torch(settings: dict[str, Any]) -> None:
    """A loop of one's own."""
    from peerfold.torch import Federation

    torch.distributed.init_process_group("gloo")
    # Each rank has other weights and statistics: DDP makes the parameters equal, the node the rest.
    torch.manual_seed(RANK)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    model = torch.nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    node = node_of(settings) if RANK == 0 or settings.get("alike") else None
    federation = Federation(node, model, optimizer, scheduler)
    tell({"begun": federation.epoch, "rate": scheduler.get_last_lr(), **digest(model, optimizer)})
    for epoch in federation.epochs(settings["epochs"]):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(10 * epoch + RANK))
        (model(x) - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if settings.get("breaks") and RANK == 0:
            with torch.no_grad():
                plain[0].weight.fill_(float("nan"))
        try:
            federation.epoch_end(16, {"loss": 1.0})
        except peerfold.WeightsError as error:
            tell({"error": str(error)})
            return
        tell({"ended": epoch, "epoch": federation.epoch, **digest(model, optimizer)})
    federation.finish()


def by_transformers(settings: dict[str, Any]) -> None:
    """Hugging Face's Trainer."""
    import transformers

    from peerfold.transformers import FederatedCallback

    class Telling(transformers.TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            tell(digest(model))

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=32)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.arange(128).remainder(32).view(16, 8)]
    transformers.set_seed(1)
    model = transformers.GPT2LMHeadModel(config)
    args = transformers.TrainingArguments(
        output_dir=settings["folder"] + "-out",
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=4,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        ddp_backend="gloo",
        disable_tqdm=True,
    )
    callbacks = [FederatedCallback(node_of(settings)), Telling()]
    trainer = transformers.Trainer(model=model, args=args, train_dataset=data, callbacks=callbacks)
    trainer.train()
    tell({"trained": trainer.state.global_step, **digest(model)})


def by_lightning(settings: dict[str, Any]) -> None:
    """Lightning's Trainer."""
    import lightning

    from peerfold.lightning import FederatedCallback

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def training_step(self, batch: Any, _: int) -> Any:
            return (self.layer(batch[0]) - batch[0]).square().mean()

        def on_train_epoch_start(self) -> None:
            tell(digest(self))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(RANK)
    module = Module()
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=settings["epochs"],
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FederatedCallback(node_of(settings))],
    )
    trainer.fit(module, data)
    tell({"trained": trainer.global_step, **digest(module)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    told = json.loads(sys.argv[1])
    {"torch": by_torch, "transformers": by_transformers, "lightning": by_lightning}[told["by"]](told)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    # gloo's threads may outlive it, and then the end of the interpreter aborts: PyTorch's own affair.
    sys.stderr.flush()
    os._exit(0)
