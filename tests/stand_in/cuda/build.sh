#!/bin/sh
# Usage: build.sh PYTHON   Lay the stand-in where the torch of this Python looks for CUDA.
# Torch finds it by its RPATH; NVML and the driver are opened by name, so LD_LIBRARY_PATH must name
# the folder too: the last line printed.
set -e
here=$(cd "$(dirname "$0")" && pwd)
site=$("${1:?the Python whose torch is a CUDA build}" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$1" "$here/generate.py" "$site/torch" "$site/nvidia/cu13/lib"
echo "$site/nvidia/cu13/lib"
