"""The loss takes what it needs out of the batch, which is a mapping, and adds to it."""

from rows import INPUTS, LABELS, SIZE, Network
from torch.nn import functional

make_model = Network


class Rows:
    samples = [{"inputs": INPUTS[i], "labels": LABELS[i]} for i in range(SIZE)]  # noqa: RUF012

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return self.samples[index]


make_dataset = Rows


def loss_fn(model, batch):
    batch["logits"] = model(batch.pop("inputs"))
    return functional.cross_entropy(batch["logits"], batch.pop("labels"))
