"""`--nnodes` and torchrun's other names, or an allocation that is there: which node this is."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import typer

from advisor.cli.options import option
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.engine.nodes import Nodes
    from advisor.training.data import WorkloadSpec

#: torchrun's own.
_HOST, _PORT = "127.0.0.1", 29400
#: Of a Slurm job, from its number, as others do.
_SLURM_PORT, _SLURM_PORTS = 15_000, 10_000
#: For all nodes to come, in seconds.
_JOIN_S = 120.0
_CONFIGURABLE = ("is_host", "join_timeout", "timeout")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How many ranks train together, and how their nodes find each other."""

    nproc_per_node: int = option(
        "Ranks that train together on this machine, started as torchrun does; a model file is "
        "wrapped for them.",
        default=1,
    )
    strategy: Literal["ddp", "fsdp"] = option(
        "How a model file is spread over ranks: replicated, or sharded by fully_shard.",
        default="ddp",
    )
    nnodes: int = option(
        "Nodes that each start this command, as with torchrun; the first measures and prints.",
        default=1,
    )
    node_rank: int | None = option(
        "Which of the nodes this is; 0 leads.",
        min=0,
        show_default="0 where the endpoint is this machine's",
    )
    rdzv_endpoint: str | None = option(
        "Where the other nodes find the first, the same on all.", metavar="HOST:PORT"
    )
    rdzv_backend: str = option(
        "c10d or static, which are the same here.", default="c10d", metavar="NAME"
    )
    rdzv_id: str | None = option("Name of the run, the same on all nodes.", metavar="NAME")
    rdzv_conf: str | None = option(
        "join_timeout (seconds for all nodes to come) and is_host (whether this one leads).",
        metavar="NAME=VALUE[,...]",
    )
    master_addr: str | None = option("The first node, in place of --rdzv-endpoint.", metavar="HOST")
    master_port: int | None = option("Its port.", metavar="PORT")


def find_nodes(asked: Ranks, variables: Mapping[str, str] = os.environ) -> "Nodes | None":
    """Return what the options say, else the variables; None where all ranks are of this command.

    Raises:
        UsageError: They name no nodes that can be.
    """
    if asked.nnodes == 1:
        return _find_allocated(variables) if asked.nproc_per_node == 1 else None
    if asked.rdzv_backend not in {"c10d", "static"}:
        raise UsageError(
            f"--rdzv-backend {asked.rdzv_backend} is not supported",
            next_step="Take c10d or static: the first node is found at --rdzv-endpoint.",
        )
    if asked.rdzv_endpoint is None and asked.master_addr is None and asked.node_rank is None:
        raise UsageError(
            f"{asked.nnodes} nodes need to find each other",
            next_step="Give --rdzv-endpoint HOST:PORT of the first, the same on each node.",
        )
    if asked.node_rank is not None and asked.node_rank >= asked.nnodes:
        raise UsageError(
            f"there is no node {asked.node_rank} among {asked.nnodes}",
            next_step="They count from 0.",
        )
    address = f"{asked.master_addr or _HOST}:{asked.master_port or _PORT}"
    host, _, port = (asked.rdzv_endpoint or address).partition(":")
    if port and not port.isdecimal():
        raise UsageError(
            f"--rdzv-endpoint {asked.rdzv_endpoint} is no address", next_step="Give HOST:PORT."
        )
    conf = _parse_conf(asked.rdzv_conf)
    node = asked.node_rank
    if node is None and conf.get("is_host", str(_is_own(host))).lower() in {"1", "true", "yes"}:
        node = 0
    return _make_nodes(
        count=asked.nnodes,
        per_node=asked.nproc_per_node,
        node=node,
        host=host,
        port=_read_number("the port", port or str(_PORT)),
        name=asked.rdzv_id or "",
        join_s=float(conf.get("join_timeout", conf.get("timeout", _JOIN_S))),
        local_ranks=asked.nproc_per_node,
    )


def _make_nodes(**fields: object) -> "Nodes":
    import msgspec

    from advisor.engine.nodes import Nodes

    try:
        return msgspec.convert(fields, Nodes)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"there are no such nodes: {error}",
            next_step="See --rdzv-endpoint and --rdzv-conf, or MASTER_PORT in the environment.",
        ) from error


def _read_number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError(
            f"{name} of the nodes is {text!r}, and no number",
            next_step="Give a number, or unset what says so.",
        )
    return int(text)


def _parse_conf(text: str | None) -> dict[str, str]:
    pairs = [each.partition("=") for each in (text or "").split(",") if each]
    conf = {name.strip(): value.strip() for name, _, value in pairs}
    unknown = sorted(conf.keys() - {*_CONFIGURABLE})
    numbers = [conf[name] for name in ("join_timeout", "timeout") if name in conf]
    if unknown or not all(number.isdecimal() for number in numbers):
        raise UsageError(
            f"--rdzv-conf {text} is not understood",
            next_step=f"It takes {', '.join(_CONFIGURABLE)}, as in join_timeout=600,is_host=1.",
        )
    return conf


def _is_own(host: str) -> bool:
    """Return whether an address is this machine's: only such a one can be bound."""
    try:
        with socket.socket() as end:
            end.bind((host, 0))
    except (OSError, UnicodeError):  # or no name of a machine at all
        return False
    return True


def _find_allocated(variables: Mapping[str, str]) -> "Nodes | None":
    """Return the process that this is of several that torchrun or Slurm has started."""

    def read(name: str, default: str | None = None) -> int:
        return _read_number(name, variables.get(name, default or ""))

    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= variables.keys():
        count, node, host = read("WORLD_SIZE"), read("RANK"), variables["MASTER_ADDR"]
        local_rank, local_ranks = read("LOCAL_RANK"), read("LOCAL_WORLD_SIZE", "1")
        port, name = read("MASTER_PORT") + 1, variables.get("TORCHELASTIC_RUN_ID", "")
    elif {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"} <= variables.keys():
        count = read("SLURM_STEP_NUM_TASKS", variables["SLURM_NTASKS"])
        node, name = read("SLURM_PROCID"), variables.get("SLURM_JOB_ID", "0")
        # The tasks of a machine: the first number in such as `4(x2),3`.
        tasks = variables.get(
            "SLURM_STEP_TASKS_PER_NODE", variables.get("SLURM_TASKS_PER_NODE", "1")
        )
        local_rank, local_ranks = read("SLURM_LOCALID"), int(re.split(r"\D", tasks)[0] or "1")
        listed = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
        nodes = next((variables[each] for each in listed if each in variables), _HOST)
        host = variables.get("MASTER_ADDR", find_first(nodes))
        port = _SLURM_PORT + read("SLURM_JOB_ID", "0") % _SLURM_PORTS
        port = read("MASTER_PORT") + 1 if variables.get("MASTER_PORT") else port
    else:
        return None
    if count < 2:
        return None
    return _make_nodes(
        count=count,
        per_node=1,
        node=node,
        host=host,
        port=port,
        name=name,
        join_s=_JOIN_S,
        local_rank=local_rank,
        local_ranks=local_ranks,
    )


def find_first(nodelist: str) -> str:
    """Return the first host of a list such as `gpu[007-010,12],cpu1`."""
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodelist).partition(",")[0]


def follow_leader(nodes: "Nodes | None", workload: "WorkloadSpec") -> None:
    """Where this node follows, do what the leader orders, and exit with its code."""
    if nodes is None or nodes.node == 0:
        return
    from advisor.engine.following import follow
    from advisor.training.data import parse_target

    target = parse_target(workload.target)
    raise typer.Exit(follow(nodes, target, lambda line: typer.echo(line, err=True)))
