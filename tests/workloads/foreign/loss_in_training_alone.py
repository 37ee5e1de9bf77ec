"""Outside of training the model returns predictions, as detectors do."""

from rows import Network
from rows import make_rows as make_dataset  # noqa: F401
from torch.nn import functional


class Detector(Network):
    def forward(self, inputs, labels=None):
        output = super().forward(inputs)
        if not self.training:
            return [{"label": row.argmax()} for row in output]
        return {"loss_class": functional.cross_entropy(output, labels)}


make_model = Detector


def loss_fn(model, batch):
    return sum(model(*batch).values())
