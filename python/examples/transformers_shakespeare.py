"""Federates a tiny GPT-2 of characters by Hugging Face's Trainer. Run it twice, in two terminals, with any text:

python transformers_shakespeare.py 0 /tmp/shakespeare input.txt
python transformers_shakespeare.py 1 /tmp/shakespeare input.txt
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import peerfold
from peerfold.transformers import FederatedCallback

number, directory, file = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
read = file.read_bytes()
read = gzip.decompress(read) if file.suffix == ".gz" else read
text = torch.tensor(list(read[:65536]), dtype=torch.long).clamp(max=127)
# Each node has one half.
half = text.view(2, -1)[number]
data = [{"input_ids": part, "labels": part} for part in half[: len(half) // 64 * 64].view(-1, 64)]
set_seed(0)  # Equal first weights on all nodes.
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, n_positions=64, vocab_size=128))

folder = peerfold.LocalFolder(f"{directory}/shared")
node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=f"{directory}/home-{number}", min_peers=1)
arguments = TrainingArguments(
    output_dir=f"{directory}/out-{number}",
    num_train_epochs=2,
    per_device_train_batch_size=32,
    learning_rate=3e-3,
    logging_steps=8,
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[FederatedCallback(node)])
print(f"node {number}: loss {trainer.train().training_loss:.3f}", flush=True)
model.save_pretrained(f"{directory}/model-{number}")
