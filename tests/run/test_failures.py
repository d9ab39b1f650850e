"""A full disk and a full memory, made real where a test can: what the user is told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from unlearning.checkpoints import write_whole
from unlearning.errors import PREEMPTED
from unlearning.run.process.failures import explain, sigterm_exits


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "a run"
    write_whole({"global_step": 4}, folder / "checkpoints/step=4.ckpt")
    write_whole({"global_step": 6}, folder / "checkpoints/step=6.ckpt")
    return folder


def raised(action) -> BaseException:
    with pytest.raises(BaseException) as caught:  # whatever the system raises
        action()
    return caught.value


def full_disk() -> None:
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def wrapped() -> None:
    try:
        full_disk()
    except OSError as error:
        raise ValueError("could not save") from error


def while_handling() -> None:
    try:
        full_disk()
    except OSError:
        raise KeyError("gone")  # noqa: B904  # as happens in handlers


def of_safetensors() -> None:
    # What safetensors makes of it: a text.
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("action", [full_disk, wrapped, while_handling, of_safetensors])
def test_a_full_disk(run_folder, action):
    told = explain(raised(action), run_folder)
    assert told is not None and "The disk is full" in told and "No space left on device" in told
    assert f"The last whole checkpoint is {run_folder}/checkpoints/step=6.ckpt." in told
    assert told.endswith(f"unlearn resume='{run_folder}'") and "MiB are free" in told


def test_a_full_disk_while_a_checkpoint_is_written(run_folder):
    path = run_folder / "checkpoints/step=8.ckpt"
    (path.parent / ".step=8.ckpt.partial").symlink_to("/dev/full")
    told = explain(raised(lambda: write_whole({"x": torch.zeros(10**6)}, path)), run_folder)
    assert told is not None and "The disk is full" in told and "step=6.ckpt." in told


def test_a_broken_checkpoint_is_not_called_the_last_whole_one(run_folder):
    os.truncate(run_folder / "checkpoints/step=6.ckpt", 700)
    told = explain(raised(full_disk), run_folder) or ""
    assert "step=6.ckpt is not whole and was skipped" in told
    assert f"The last whole checkpoint is {run_folder}/checkpoints/step=4.ckpt." in told


def test_nothing_saved_yet_and_everything_done(tmp_path):
    assert "no checkpoint yet" in (explain(raised(full_disk), tmp_path / "new") or "")
    (tmp_path / "unlearned.json").write_text("{}")
    told = explain(raised(full_disk), tmp_path) or ""
    assert f"is done and saved in {tmp_path / 'model'}" in told


@pytest.mark.parametrize(
    "action",
    [
        lambda: torch.empty(2**50),  # the CPU allocator's own words
        lambda: bytearray(2**62),
        lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))),
    ],
)
def test_the_machines_memory(run_folder, action):
    told = explain(raised(action), run_folder) or ""
    assert told.startswith("The machine's memory is full") and "step=6.ckpt" in told
    assert "unlearn.batch_size" in told and "GPU" not in told


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_the_gpus_memory(run_folder, error):
    told = explain(error, run_folder) or ""
    assert told.startswith("The GPU's memory is full") and "step=6.ckpt" in told
    assert "unlearn.accumulate_grad_batches" in told and "..." not in told  # one line of theirs


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu(run_folder):
    error = raised(lambda: torch.empty(2**50, device="cuda"))
    assert (explain(error, run_folder) or "").startswith("The GPU's memory is full")


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.EIO, "I/O error"), RuntimeError("shape mismatch")]
)
def test_other_errors_are_left_alone(run_folder, error):
    assert explain(error, run_folder) is None


def test_a_circle_of_causes_ends(run_folder):
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert explain(first, run_folder) is None


# --- SIGTERM outside training --------------------------------------------------------------------


def test_sigterm_ends_the_block_and_the_handler_comes_back():
    before, closed = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as left, sigterm_exits():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # schedulers repeat it; this must not be cut off
            closed.append(True)
    assert left.value.code == PREEMPTED and closed == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_process_ends_with_its_own_code_and_closes_its_files(tmp_path):
    code = (
        "import time\n"
        "from unlearning.run.process.failures import sigterm_exits\n"
        "with sigterm_exits():\n"
        "    try:\n"
        "        print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n"
        "        print('closed', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=30)[0] == "closed\n"
    assert process.returncode == PREEMPTED


def test_outside_the_main_thread_nothing_is_installed():
    found = []

    def look() -> None:
        with sigterm_exits():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_folder_that_was_removed_while_it_was_written(run_folder):
    from unlearning.files.atomic import atomic_write, remove

    def write() -> None:
        with atomic_write(run_folder / "model") as aside:
            aside.mkdir()
            remove(run_folder)
            (aside / "weights").write_text("x")

    told = explain(raised(write), run_folder)
    assert told is not None and "was removed while it was written" in told
    assert ".model.partial/weights" in told and "unlearn resume=" in told
    assert explain(FileNotFoundError(2, "no such file", "book.txt"), run_folder) is None
