"""A child is forked that ends by itself, and one that goes on like the parent."""

import os
import sys

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

child = os.fork()
if not child:
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
os.fork()
