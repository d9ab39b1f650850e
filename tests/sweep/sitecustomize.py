"""On the path of a submitit task: its run writes where it finds itself, and has no model."""

from __future__ import annotations

import json
import os
import sys
import types


def start(config, folder, resume=False):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SUBMITIT_EXECUTOR")
    seen = {name: os.environ[name] for name in names if name in os.environ}
    told = {"resume": resume, "sweep": dict(config.sweep), "seed": config.seed, **seen}
    told["sweep"].pop("objectives")
    rank = int(seen.get("RANK", 0))
    (folder / f"rank_{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    if config.seed == 13:
        return 1
    if rank == 0:
        (folder / "metrics.json").write_text('{"steps": 3}', encoding="utf-8")
    return 0


stand_in = types.ModuleType("unlearning.run.start")
stand_in.start = start
sys.modules["unlearning.run.start"] = stand_in
