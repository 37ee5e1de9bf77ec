"""The file reads the command line when it is imported, as training scripts do."""

import argparse
import sys

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
BASE_BATCH_SIZE = parser.parse_args().batch_size
assert sys.argv[0].endswith("reads_arguments.py"), sys.argv
