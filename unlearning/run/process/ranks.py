"""The ranks of one run: rank 0 leads, the others follow it through the same stages.

Every rank runs the whole pipeline from its start. What one process can do alone (training the
classifier, evaluating before and after, writing) rank 0 does; the others wait for its word. A
process group exists only while all of them train together: outside of it, libraries that gather
over whatever group there is (torchmetrics does) would wait for ranks that never come.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch.distributed import DistError, DistNetworkError, PrefixStore, Store, rendezvous
from torch.distributed.constants import default_pg_timeout

from unlearning.errors import ConfigError
from unlearning.run.process.spawn import SPAWNED

POLL_SECONDS = 0.2
LEAVE = timedelta(seconds=60)
ARRIVE = timedelta(minutes=10)  # from the first rank to the last, which may be long in importing


class Ranks:
    """This process among the ranks of its run.

    Args:
        environment: who started them, as Lightning puts it; None where there is one process.
    """

    def __init__(self, environment: ClusterEnvironment | None = None) -> None:
        self.environment, self.rank, self.world, self.local_rank = environment, 0, 1, 0
        self._store: Store | None = None
        self._shared = self._groups = 0
        if environment is not None:
            self.rank, self.world = _place(environment)
            self.local_rank = environment.local_rank()
        if self.world > 1:
            assert environment is not None
            os.environ["MASTER_ADDR"] = environment.main_address
            os.environ["MASTER_PORT"] = str(environment.main_port)
            self._store = _meet(self.rank, self.world)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """Broadcasts rank 0's value; the other ranks wait for it, however long it takes.

        Args:
            value: what JSON can hold; looked at on rank 0 only.
        """
        if self._store is None:
            return value
        key, self._shared = f"shared/{self._shared}", self._shared + 1
        if self.leads:
            self._store.set(key, json.dumps(value))
            return value
        self._wait(key)
        return json.loads(self._store.get(key))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Opens a process group for the block; all ranks have to enter it."""
        if self._store is None:
            yield
            return
        store = PrefixStore(f"group/{self._groups}", self._store)
        self._groups += 1
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.world
        )
        yield
        # Not after an error: the other ranks might wait in there, and never come.
        torch.distributed.destroy_process_group()

    def leave(self) -> None:
        """Leaves the run. The rendezvous store lives in rank 0, which therefore leaves last."""
        if self._store is None:
            return
        if not self.leads:
            self._store.set(f"left/{self.rank}", "")
        else:
            self._store.wait([f"left/{rank}" for rank in range(1, self.world)], LEAVE)

    def _wait(self, key: str) -> None:
        # Asked now and then: between two times a signal is heard, and torch, whose own waiting
        # fills logs with warnings when a slice of it goes by, has nothing to say.
        assert self._store is not None
        try:
            while not self._store.check([key]):
                time.sleep(POLL_SECONDS)
        except DistNetworkError:
            sys.exit(
                "error: rank 0, for which this rank waited, has ended; its own output says why."
            )


def _meet(rank: int, world: int) -> Store:
    try:
        store, _, _ = next(rendezvous("env://", rank, world, timeout=ARRIVE))
    except DistError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ConfigError(
            f"This process is one of {world} by its environment, and they did not meet at {where}: "
            f"{str(error).splitlines()[0]}. Start all of them (in a SLURM batch script with srun), "
            "or one outside of that environment; where the port is taken, set MASTER_PORT."
        ) from error
    store.set_timeout(default_pg_timeout)
    return store


def surroundings() -> ClusterEnvironment | None:
    """Returns Lightning's environment where something started this process as one of several; else
    None.

    Raises:
        ConfigError: SLURM did, in a way that Lightning does not take.
    """
    if os.environ.get(SPAWNED):
        return LightningEnvironment()
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    # A batch script without srun is one task, whatever it was given; the ranks are then ours.
    if SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        try:
            # It would answer SIGUSR1 with a checkpoint of its own and the same command once more.
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise ConfigError(f"The SLURM job cannot be used as it is: {error}") from error
    return LightningEnvironment() if "LOCAL_RANK" in os.environ else None


def _place(environment: ClusterEnvironment) -> tuple[int, int]:
    """Returns rank and number of ranks. Lightning's own environment gets both only from a
    strategy."""
    if isinstance(environment, LightningEnvironment):
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return environment.global_rank(), environment.world_size()
