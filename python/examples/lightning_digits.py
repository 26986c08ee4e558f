"""Federates a small network in Lightning. Run it twice, in two terminals:

python lightning_digits.py 0 /tmp/lightning_digits
python lightning_digits.py 1 /tmp/lightning_digits
"""

from __future__ import annotations

import sys

import digits
import lightning
import torch

import peerfold
from peerfold.lightning import FederatedCallback

number, directory = int(sys.argv[1]), sys.argv[2]
x, y, x_test, y_test = (torch.from_numpy(array) for array in digits.load(number))


class Classifier(lightning.LightningModule):
    """Two layers."""

    def __init__(self) -> None:
        """With weights of torch's seed."""
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """The loss of a batch."""
        loss = torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


lightning.seed_everything(0)  # Equal first weights on all nodes.
model = Classifier()
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)

folder = peerfold.LocalFolder(f"{directory}/shared")
node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=f"{directory}/home-{number}", min_peers=1)
trainer = lightning.Trainer(
    max_epochs=10,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    callbacks=[FederatedCallback(node)],
)
trainer.fit(model, data)
accuracy = (model.layers(x_test).argmax(dim=1) == y_test).float().mean().item()
print(f"node {number}: accuracy {accuracy:.3f}", flush=True)
