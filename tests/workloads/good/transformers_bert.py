"""A tiny BERT made from a config: a Hugging Face model as it is, without a download."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

VOCABULARY = 64


class Sentences(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(VOCABULARY, (128, 10), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": (tokens[0] > VOCABULARY // 2).long()}


def make_model():
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config)


def make_dataset():
    return Sentences()
