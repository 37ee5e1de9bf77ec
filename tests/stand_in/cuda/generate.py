"""Build a stand-in for every NVIDIA library that a CUDA build of torch names.

Run: generate.py TORCH_FOLDER OUT_FOLDER. For each library it collects the symbols that torch's own
libraries leave undefined, with their versions (readelf, nm), and those that they look up by name
(strings). What the sources beside this file define is compiled in; each other symbol becomes a
function that does nothing and returns the library's word for "not supported". The library gets
the SONAME and the symbol versions that torch's loader asks for.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
#: Exit status that tells a missing toolkit from a fault.
NO_HEADERS = 3
OURS = re.compile(r"lib(cuda|cudart|cu[a-zA-Z]+|nv[a-z_]+|nccl)\.so")
CUDART, DRIVER, NVML = "libcudart.so.13", "libcuda.so.1", "libnvidia-ml.so.1"
#: Asked for by no NEEDED entry: opened by name.
OPENED = {DRIVER, NVML, "libcusolver.so.12"}
#: Symbols without a version are told apart by how they begin.
PREFIXES = {
    "cusparseLt": "libcusparseLt.so.0",
    "nccl": "libnccl.so.2",
    "cuFile": "libcufile.so.0",
    "nvshmem": "libnvshmem_host.so.3",
}
SOURCES_OF = {
    CUDART: ("card", "device", "memory", "streams", "kernels"),
    DRIVER: ("cuda",),
    NVML: ("nvml",),
    "libcublas.so.13": ("cublas",),
    "libcublasLt.so.13": ("cublasLt",),
    "libcudnn.so.9": ("cudnn",),
}
#: What a function that does nothing returns; 0, success, elsewhere.
NOT_SUPPORTED = {
    CUDART: 801,
    DRIVER: 801,
    NVML: 3,
    "libcupti.so.13": 15,
    "libnccl.so.2": 3,
    "libnvshmem_host.so.3": 1,
    "libcufile.so.0": 5001,
}
#: Of cudart, what may do nothing and still succeeds.
HARMLESS = re.compile(
    r"cuda(Func|Ctx|Profiler|DeviceReset|DeviceSet|DeviceFlush|SetDeviceFlags|SetValid|Kernel"
    r"|GraphDestroy|GraphExecDestroy|UserObjectRelease|StreamAttach|StreamCopy|StreamSet"
    r"|MemPoolDestroy)"
)
#: Handles that a caller looks into for nothing.
CREATES = re.compile(r"(cusparse|cusolverDn|cudnn)Create|cusparseLtInit")
DOES_NOTHING = """long {name}(void) {{ stand_in_trace("{name}"); return {status}; }}"""
CREATES_ONE = """int {name}(void **at) {{ return !(*at = calloc(1, 4096)); }}"""


def run(*command: object) -> str:
    """Return what the command prints; its errors are shown."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def read_library(path: Path) -> tuple[set[str], dict[str, str], set[str], set[str]]:
    """Return what a library of torch's needs, the versions it asks for, and its symbols."""
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", run("readelf", "-d", path)))
    versions, file = {}, ""
    for line in run("readelf", "-V", path).splitlines():
        if found := re.search(r"File: (\S+)", line):
            file = found[1]
        elif (found := re.search(r"Name: (\S+) ", line)) and OURS.match(file):
            versions[found[1]] = file
    undefined, defined = set(), set()
    for line in run("nm", "-D", path).splitlines():
        *_, kind, name = line.split()
        (undefined if kind in "Uw" else defined).add(name)
    return {name for name in needed if OURS.match(name)}, versions, undefined, defined


def list_looked_up(torch: Path) -> set[str]:
    """Return the functions of the driver and of NVML that torch looks up by name."""
    form = re.compile(
        r"^(?!cuFile|cuComplex)(?:cu[A-Z]|nvml[A-Z])[A-Za-z0-9]+(?:_v\d)?$", re.MULTILINE
    )
    paths = (torch / "lib" / name for name in ("libc10_cuda.so", "libtorch_cuda.so"))
    return {name for path in paths for name in form.findall(run("strings", "-n", "5", path))}


def list_wanted(torch: Path) -> dict[str, dict[str, str]]:
    """Return each library's symbols with their versions, empty for none."""
    paths = [*sorted(torch.glob("lib/*.so*")), *sorted(torch.glob("*.so"))]
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(read_library, paths))
    versions = {key: file for _, found, _, _ in read for key, file in found.items()}
    defined = {name.partition("@")[0] for _, _, _, names in read for name in names}
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for full in {name for _, _, names, _ in read for name in names}:
        name, _, version = full.partition("@")
        version = version.lstrip("@")
        if version in versions:
            wanted[versions[version]][name] = version
        elif not version and name not in defined:
            prefixed = (file for prefix, file in PREFIXES.items() if name.startswith(prefix))
            file = next(prefixed, DRIVER if re.match(r"cu[A-Z]", name) else None)
            if file:
                wanted[file][name] = ""
    for name in list_looked_up(torch):
        wanted[NVML if name.startswith("nvml") else DRIVER].setdefault(name, "")
    for file in {name for needed, _, _, _ in read for name in needed} | OPENED:
        _ = wanted[file]
    return wanted


def find_headers() -> Path:
    """Return the folder of CUDA's headers."""
    homes = [os.environ.get("CUDA_HOME", ""), *sorted(map(str, Path("/usr/local").glob("cuda*")))]
    chosen = [Path(os.environ["CUDA_INCLUDE"])] if "CUDA_INCLUDE" in os.environ else []
    folders = chosen + [Path(home) / "include" for home in homes if home]
    for folder in folders:
        if (folder / "cuda_runtime_api.h").exists():
            return folder
    print("there are no headers of CUDA 13: install its toolkit, or set CUDA_INCLUDE")
    sys.exit(NO_HEADERS)


def compile_source(name: str, headers: Path, work: Path) -> Path:
    """Return the object file of one of the sources."""
    built = work / f"{name}.o"
    flags = ("-c", "-fPIC", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation")
    run("gcc", *flags, "-I", headers, SOURCES / f"{name}.c", "-o", built)
    return built


def write_functions(file: str, missing: list[str], path: Path) -> None:
    """Write the functions of a library that no source has."""
    written = (SOURCES / "functions.c").read_text()
    lines = ["#include <stdlib.h>", "#include <string.h>", "void stand_in_trace(const char *);"]
    for name in missing:
        found = re.search(rf"^(?:const char \*|int ){name}\(.*$", written, re.MULTILINE)
        status = 0 if HARMLESS.match(name) else NOT_SUPPORTED.get(file, 0)
        form = CREATES_ONE if CREATES.match(name) else DOES_NOTHING
        lines.append(found[0] if found else form.format(name=name, status=status))
    path.write_text("\n".join(lines) + "\n")


def build(file: str, wanted: dict[str, str], headers: Path, out: Path) -> str:
    """Build one library and return what to say of it."""
    work, stem = out / "build", file.partition(".so")[0]
    objects = [compile_source(name, headers, work) for name in SOURCES_OF.get(file, ())]
    listed = "".join(run("nm", "--defined-only", "-g", each) for each in objects)
    have = {line.split()[-1] for line in listed.splitlines() if line}
    source, versions = work / f"{stem}_rest.c", work / f"{stem}.map"
    write_functions(file, sorted(set(wanted) - have), source)
    asked = sorted({version for version in wanted.values() if version})
    versions.write_text("".join(f"{version} {{ global: *; }};\n" for version in asked))
    others = ["-lpthread", "-ldl"]
    if file != CUDART:
        others = ["-Wl,--no-as-needed", out / CUDART, "-Wl,-rpath,$ORIGIN"]
    if asked:
        others.append(f"-Wl,--version-script={versions}")
    made = ("gcc", "-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{file}", "-o", out / file)
    run(*made, source, *objects, *others)
    return f"{file:24} {len(wanted):4} symbols, {len(set(wanted) & have):4} by hand"


def main() -> None:
    """Build cudart first: all others are linked with it."""
    torch, out = Path(sys.argv[1]), Path(sys.argv[2])
    headers = find_headers()
    (out / "build").mkdir(parents=True, exist_ok=True)
    wanted = list_wanted(torch)
    print(build(CUDART, wanted.pop(CUDART), headers, out))
    with ThreadPoolExecutor() as pool:
        built = pool.map(lambda file: build(file, wanted[file], headers, out), sorted(wanted))
        print(*built, sep="\n")


if __name__ == "__main__":
    main()
