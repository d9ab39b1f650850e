"""Explains why a run failed and what to do; handles SIGTERM outside of training."""

from __future__ import annotations

import errno
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import torch

from unlearning.checkpoints import newest_whole
from unlearning.errors import PREEMPTED
from unlearning.files.atomic import aside_of
from unlearning.run.output.run_folder import UNLEARNED
from unlearning.run.process.signals import handled

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXTS = ("no space left on device", "disk quota exceeded")
CPU_MEMORY_TEXTS = ("defaultcpuallocator", "cannot allocate memory", "std::bad_alloc")

SMALLER_BATCH = (
    "a smaller unlearn.batch_size with a larger unlearn.accumulate_grad_batches (the same update)"
)


def explain(error: BaseException, folder: Path) -> str | None:
    """Explains a full disk or memory, or a folder that was removed: what happened, what is left
    and what to do.

    Args:
        error: what ended the run; its causes are looked at as well.
        folder: the run folder.

    Returns:
        A few lines; None for any other error.
    """
    for cause in _chain(error):
        if _disk_is_full(cause):
            return f"{_disk(cause, folder)}\n{_left(folder)}\n{_again(folder)}"
        if _was_removed(cause):
            return f"{_removed(cause)}\n{_left(folder)}\n{_again(folder)}"
        if _gpu_memory_is_full(cause):
            return f"{_gpu(cause)}\n{_left(folder)}\n{_again(folder)}"
        if _memory_is_full(cause):
            return f"{_memory(cause)}\n{_left(folder)}\n{_again(folder)}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    to_come: list[BaseException | None] = [error]
    while to_come:
        found = to_come.pop(0)
        if found is not None and not any(found is other for other in seen):
            seen.append(found)
            to_come += [found.__cause__, found.__context__]
            yield found


def _disk_is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    # safetensors, Arrow and torch pass the system's words on in errors of their own.
    return isinstance(error, Exception) and any(t in str(error).lower() for t in FULL_TEXTS)


def _was_removed(error: BaseException) -> bool:
    # Nobody but `atomic_write` has files of this name, and it has just made it.
    written = aside_of(Path("*")).suffix
    named = str(getattr(error, "filename", None) or "")
    return isinstance(error, FileNotFoundError) and any(
        part.startswith(".") and part.endswith(written) for part in Path(named).parts
    )


def _gpu_memory_is_full(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # NCCL, cuBLAS and cuDNN have their own words for it.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "cuda out of memory" in text or "cuda error: out of memory" in text
        or "cublas_status_alloc_failed" in text
    )  # fmt: skip


def _memory_is_full(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(t in text for t in CPU_MEMORY_TEXTS)


def _disk(error: BaseException, folder: Path) -> str:
    where = getattr(error, "filename", None)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free / 2**20
    return (
        f"The disk is full{f' (writing {where})' if where else ''}: {_first_line(error)}. On the "
        f"disk of {folder} {free:.0f} MiB are free; the kept results (cache_dir) and the temporary "
        "files may lie on another. Make room; callbacks.checkpoint.keep=1 and "
        "callbacks.checkpoint.best=null need less of it in a run that is started anew."
    )


def _removed(error: BaseException) -> str:
    return (
        f"{getattr(error, 'filename', None)} was removed while it was written. The run folder and "
        "the kept results (cache_dir) have to stay where they are while runs use them."
    )


def _gpu(error: BaseException) -> str:
    return (
        f"The GPU's memory is full: {_first_line(error)}. If another program holds some of it, end "
        f"that and go on. Otherwise start anew with less: {SMALLER_BATCH}, "
        "unlearn.gradient_checkpointing=true, model.lora={}, unlearn.optimizer=adamw_8bit, more "
        "GPUs with trainer=fsdp; for answers a smaller evaluation.batch_size."
    )


def _memory(error: BaseException) -> str:
    what = _first_line(error) or "no more could be had"
    return (
        f"The machine's memory is full: {what}. If other programs hold it, end them and go on. "
        f"Otherwise start anew with less: {SMALLER_BATCH}, model.lora={{}}, "
        "reference.dtype=bfloat16, or callbacks.guard=null (it holds a copy of the weights)."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ")[:300] if lines else ""


def _left(folder: Path) -> str:
    if (folder / UNLEARNED).is_file():
        return f"The unlearning itself is done and saved in {folder / 'model'}."
    newest, skipped = newest_whole(folder / "checkpoints")
    if newest is None:
        return " ".join([*skipped, "There is no checkpoint yet; finished stages are kept."])
    return " ".join([*skipped, f"The last whole checkpoint is {newest}."])


def _again(folder: Path) -> str:
    return f"To go on with the same settings: unlearn resume={shlex.quote(str(folder))}"


def sigterm_exits() -> AbstractContextManager[None]:
    """Context in which SIGTERM ends the process cleanly, with exit code 143.

    It raises `SystemExit` wherever the run is, so that files and loggers are closed. While a
    training runs, `GracefulStop` takes the signal instead. Outside the main thread it does nothing.
    """
    return handled(_exit, (signal.SIGTERM,))


def _exit(number: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # schedulers repeat it; cleaning up goes on
    raise SystemExit(PREEMPTED)
