"""Runs a module of the tests as each of several ranks, as torchrun would start them."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from forked import Forked

TESTS = Path(__file__).parent


def run_ranks(module: str, *arguments: str, world: int = 2, timeout: float = 240) -> list[Any]:
    """What the ranks print in their last line, as JSON, in the order of ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"}
    common |= {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        Forked(
            [sys.executable, "-m", module, *arguments],
            cwd=TESTS,
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
        )
        for rank in map(str, range(world))
    ]
    try:
        said = [process.communicate(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * world, said
    return [json.loads(printed.splitlines()[-1]) for printed, _ in said]
