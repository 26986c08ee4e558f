"""The paper's CNN for MNIST in PyTorch, with nodes in Keras and in burn: see "Mixed federations" in the README."""

from __future__ import annotations

from collections import OrderedDict

import mnist
import mnist_node
import torch
from torch import nn

from peerfold.mappings import mnist as mapping
from peerfold.torch import Federation, load

given = mnist_node.settings()
torch.set_num_threads(1)
data = mnist_node.Data(given)
x_test, y_test = torch.from_numpy(data.test[0])[:, None], torch.from_numpy(data.test[1])
model = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 32, 4),
        relu1=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        conv2=nn.Conv2d(32, 16, 4),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        dense=nn.Linear(16 * 9 * 9, 10),
    )
).to(memory_format=torch.channels_last)  # Quicker on processors; shared is the same.
load(model, mnist.read(given.init))  # Equal first weights on all nodes.
optimizer = torch.optim.Adam(model.parameters(), lr=mnist_node.LEARNING_RATE)

node = mnist_node.federated(given)
federation = Federation(node, model, optimizer, mapping=mapping)
for _ in federation.epochs(given.epochs):
    model.train()
    for _ in range(given.steps_per_epoch):
        x, y = map(torch.from_numpy, data.batch())
        loss = nn.functional.cross_entropy(model(x[:, None]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    federation.epoch_end(given.steps_per_epoch * mnist_node.BATCH, {"loss": loss.item()})
    model.eval()
    with torch.inference_mode():
        right = sum(
            (model(x).argmax(1) == y).sum().item() for x, y in zip(x_test.split(256), y_test.split(256), strict=True)
        )
    node.evaluated({"accuracy": right / len(y_test)})
federation.finish()
if given.out:
    mnist.write(given.out, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
