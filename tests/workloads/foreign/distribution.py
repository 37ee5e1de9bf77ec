"""The model returns a distribution (TylerYep/torchinfo#329)."""

from rows import Network
from rows import make_rows as make_dataset  # noqa: F401
from torch.distributions import Categorical


class Policy(Network):
    def forward(self, inputs):
        return Categorical(logits=super().forward(inputs))


make_model = Policy
