"""The output answers for none but its own attributes."""

from rows import Network
from rows import make_rows as make_dataset  # noqa: F401


class Output:
    def __init__(self, logits):
        self.logits = logits

    def __getattr__(self, name):
        raise RuntimeError(f"there is no {name} in this output")


class Wrapped(Network):
    def forward(self, inputs):
        return Output(super().forward(inputs))


make_model = Wrapped
