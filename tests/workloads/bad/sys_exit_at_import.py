"""A script without a __main__ guard that ends itself when it is imported."""

import sys

sys.exit("usage: train.py DATA")
