"""All inputs and all labels are returned in place of a dataset."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401


def make_dataset():
    return INPUTS, LABELS
