"""Hugging Face's Trainer: accumulation, a warm-up, clipping to 1, an evaluation now and then."""

import sys

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import HfArgumentParser, Trainer, TrainingArguments


class Model(nn.Module):
    """Returns what a model of Hugging Face's does."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embed(input_ids).mean(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(Dataset):
    """Token sequences that are told apart by one token."""

    def __init__(self, count):
        self.ids = torch.randint(0, 50, (count, 12), generator=torch.Generator().manual_seed(3))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": int(self.ids[index, 0] > 25)}


if __name__ == "__main__":
    (settings,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(
        [
            *("--output_dir", "out", "--per_device_train_batch_size", "8", "--use_cpu"),
            *("--gradient_accumulation_steps", "4", "--warmup_steps", "1000", "--report_to"),
            *("none", "--num_train_epochs", "3", "--disable_tqdm", "True", "--save_strategy", "no"),
            *("--eval_strategy", "steps", "--eval_steps", "2", "--logging_steps", "2"),
            *sys.argv[1:],
        ]
    )
    Trainer(Model(), settings, train_dataset=Rows(4096), eval_dataset=Rows(64)).train()
