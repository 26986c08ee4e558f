"""Federates a small network in PyTorch. Run it twice, in two terminals:

python torch_digits.py 0 /tmp/torch_digits
python torch_digits.py 1 /tmp/torch_digits
"""

from __future__ import annotations

import sys

import digits
import torch

import peerfold
from peerfold.torch import Federation

number, directory = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
x, y, x_test, y_test = (torch.from_numpy(array) for array in digits.load(number))
torch.manual_seed(0)  # Equal first weights on all nodes.
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

folder = peerfold.LocalFolder(f"{directory}/shared")
node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=f"{directory}/home-{number}", min_peers=1)
federation = Federation(node, model, optimizer)
for epoch in federation.epochs(10):
    model.train()
    for batch in torch.randperm(len(x)).split(32):
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    federation.epoch_end(num_examples=len(x), metrics={"loss": loss.item()})
    model.eval()
    accuracy = (model(x_test).argmax(dim=1) == y_test).float().mean().item()
    print(f"node {number}, epoch {epoch}: accuracy {accuracy:.3f}", flush=True)
federation.finish()
torch.save(model.state_dict(), f"{directory}/model-{number}.pt")
