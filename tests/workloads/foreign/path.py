"""The place of the data is returned in place of the data."""

from rows import Network as make_model  # noqa: F401


def make_dataset():
    return "data/train.csv"
