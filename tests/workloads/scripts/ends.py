"""Never gets to its first step."""

import argparse
import ctypes
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--by")
how = parser.parse_args().by
if how == "status":
    os._exit(3)
elif how == "fault":
    ctypes.string_at(0)
elif how == "usage":
    parser.add_argument("--needed", required=True)
    parser.parse_args()
elif how == "reading":
    print(input("Which one? "))
time.sleep(1000.0)
