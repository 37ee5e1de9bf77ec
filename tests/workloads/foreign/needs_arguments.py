"""An argument is required at import."""

import argparse

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
arguments = parser.parse_args()
