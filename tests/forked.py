"""Processes that begin with the libraries imported, which takes a fresh interpreter seconds.

Forked from a server that has imported and computed nothing else. For tests of what a process does,
not of how it starts: the seed of hashes and what libraries take from the environment while they
are imported are the server's.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["unlearning.run.start", "unlearning.module", "unlearning.evaluation", "unlearning.classifier"]
)


class Forked:
    """What `subprocess.Popen(command, text=True, stdout=PIPE, stderr=PIPE)` is.

    Args:
        command: `sys.executable` with `-m <module>` or `-c <code>`, and arguments.
        cwd: None for ours.
        env: None for ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        assert command[0] == sys.executable and command[1] in ("-m", "-c")
        self._folder = Path(tempfile.mkdtemp())
        for name in ("out", "err"):
            (self._folder / name).touch()
        self._said: tuple[str, ...] = ()
        self._process = _SERVER.Process(
            target=_become,
            args=(list(command), str(cwd or Path.cwd()), dict(env or os.environ), self._folder),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        self._process.join(timeout)
        late = self.returncode is None
        if late:
            self.kill()
            self._process.join()
        if self._folder.exists():
            self._said = tuple((self._folder / name).read_text() for name in ("out", "err"))
            shutil.rmtree(self._folder)
        if late:
            raise TimeoutError(f"{timeout} s were not enough. It said: {self._said}")
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, ...]:
        """Standard output and error, once the process has ended."""
        self.wait(timeout)
        return self._said

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run(
    command: Sequence[str],
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(command, text=True, capture_output=True)` does."""
    process = Forked(command, cwd, env)
    stdout, stderr = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _become(command: list[str], cwd: str, environment: dict[str, str], said: Path) -> None:
    """In the forked process: what the interpreter does with this command line."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    tempfile.tempdir = None
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    _, kind, what, *sys.argv[1:] = command
    code = 1
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv[0] = "-c"
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
