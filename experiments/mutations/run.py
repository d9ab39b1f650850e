"""Breaks the code in one place at a time, and looks for a test that notices.

    python experiments/mutations/run.py [--jobs 2] [--only layout]

Each mutation of `mutations.yaml` is made in a copy of the checkout, and the test files that cover
its module run on the copy until one fails. A mutation that none of them notices survives. The
results go into `results.json` and the table of `README.md`. Every run of tests is forked from this
process, which has imported the libraries, so that it takes as long as the tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("unlearning", "tests", "conf", "pyproject.toml", "experiments/speed", "README.md", "docs")
BEGIN, END = "<!-- results -->\n", "<!-- end -->\n"
NOT_RUN = "not slow and not ddp and not gpu"
REWRITTEN = "ignore::pytest.PytestAssertRewriteWarning"  # the libraries are imported
PATIENCE = 600  # seconds after which a run counts as one that does not end


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Args:
        file: of the package.
        tests: that cover it.
        was: what stands there, once.
        now: what is put in its place.
        what: the change in words.
    """

    file: str
    tests: tuple[str, ...]
    was: str
    now: str
    what: str


def read_mutations() -> list[Mutation]:
    groups = yaml.safe_load((HERE / "mutations.yaml").read_text(encoding="utf-8"))
    return [
        Mutation(group["file"], tuple(group["tests"]), **each)
        for group in groups
        for each in group["mutations"]
    ]


def check(mutation: Mutation) -> None:
    """Raises ValueError where the file no longer holds the lines that are to be changed."""
    times = (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.was)
    if times != 1:
        raise ValueError(f"{mutation.file} holds {mutation.was!r} {times} times, not once.")


def import_libraries() -> None:
    """What the tests import, the package itself left out."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="offline")
    os.environ["OMP_NUM_THREADS"] = "1"
    import datasets  # noqa: F401
    import lightning  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import sacrebleu  # noqa: F401
    import torch
    import torchmetrics  # noqa: F401
    import transformers  # noqa: F401

    torch.set_num_threads(1)


def first_failure(tests: tuple[str, ...], folder: Path, package: Path) -> str | None:
    """The first test to fail, in a forked process; None if all pass."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        try:
            os._exit(_run_tests(tests, package, said))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    end = time.monotonic() + PATIENCE
    while not (status := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return "(does not end)"
        time.sleep(0.05)
    if os.waitstatus_to_exitcode(status[1]) == 0:
        return None
    if not said.exists():
        print(said.with_name("log").read_text(encoding="utf-8")[-2000:], file=sys.stderr)
        return "(does not start)"
    return said.read_text(encoding="utf-8")


def _run_tests(tests: tuple[str, ...], package: Path, said: Path) -> int:
    import pytest

    class Told:
        def pytest_configure(self, config: pytest.Config) -> None:
            from hypothesis import Phase, settings

            # A failure is enough; the smallest one would take longer.
            phases = (Phase.explicit, Phase.generate)
            settings.register_profile("mutations", phases=phases, database=None, deadline=None)
            settings.load_profile("mutations")

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and not said.exists():
                said.write_text(report.nodeid, encoding="utf-8")

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed and not said.exists():
                said.write_text(f"{report.nodeid} (cannot be imported)", encoding="utf-8")

    os.chdir(package)
    sys.path[:] = [str(package), *(p for p in sys.path if p not in ("", str(ROOT), str(HERE)))]
    log = os.open(said.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return int(pytest.main(
        ["-x", "-q", "-p", "no:cacheprovider", "-m", NOT_RUN, "-W", REWRITTEN,
         *tests], plugins=[Told()],
    ))  # fmt: skip


def copies(number: int) -> Iterator[Path]:
    """Copies of the checkout, without compiled files."""
    for _ in range(number):
        folder = Path(tempfile.mkdtemp(prefix="mutations-"))
        for name in COPIED:
            source, target = ROOT / name, folder / "copy" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield folder


def rewrite(path: Path, text: str) -> None:
    """Another file and another second, so that no compiled file is taken for that of this one."""
    second = int(path.stat().st_mtime) + 10
    path.write_text(text, encoding="utf-8")
    os.utime(path, (second, second))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--only", default=[""], nargs="*", help="files whose path holds one of these"
    )
    parser.add_argument("--survivors", action="store_true", help="none that was noticed before")
    options = parser.parse_args()
    known = read_results()
    chosen = [
        each
        for each in read_mutations()
        if any(part in each.file for part in options.only)
        and not (options.survivors and known.get(name_of(each)))
    ]
    for mutation in chosen:
        check(mutation)
    import_libraries()
    free = list(copies(options.jobs))

    def killed_by(mutation: Mutation | None, tests: tuple[str, ...]) -> str | None:
        folder = free.pop()
        try:
            if mutation is None:
                return first_failure(tests, folder, folder / "copy")
            path = folder / "copy" / mutation.file
            text = path.read_text(encoding="utf-8")
            rewrite(path, text.replace(mutation.was, mutation.now))
            try:
                return first_failure(tests, folder, folder / "copy")
            finally:
                rewrite(path, text)
        finally:
            free.append(folder)

    def tried(mutation: Mutation) -> tuple[Mutation, str | None]:
        found = killed_by(mutation, mutation.tests)
        print(f"{mutation.file}: {mutation.what}: {found or 'SURVIVES'}", flush=True)
        return mutation, found

    try:
        for tests in dict.fromkeys(each.tests for each in chosen):
            if failure := killed_by(None, tests):
                print(f"Without any mutation {failure} fails.", file=sys.stderr)
                return 2
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(tried, chosen))
    finally:
        for folder in free:
            shutil.rmtree(folder)
    survivors = [each for each, found in results if found is None]
    print(f"{len(results) - len(survivors)} of {len(results)} are noticed.")
    write_table(keep(results))
    return int(bool(survivors))


def read_results() -> dict[str, str | None]:
    """The first test to fail by mutation, of earlier runs."""
    path = HERE / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(results: list[tuple[Mutation, str | None]]) -> dict[str, str | None]:
    """The same with those of this run."""
    known = read_results() | {name_of(mutation): found for mutation, found in results}
    kept = {name: known[name] for name in map(name_of, read_mutations()) if name in known}
    (HERE / "results.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return kept


def name_of(mutation: Mutation) -> str:
    """Tests are part of it where one test is to notice by itself."""
    alone = mutation.tests[0].partition("::")[2] if len(mutation.tests) == 1 else ""
    return f"{mutation.file}: {mutation.what}" + (f" ({alone})" if alone else "")


def write_table(results: dict[str, str | None]) -> None:
    """Into `README.md`, between its marks."""
    killed = sum(found is not None for found in results.values())
    lines = [
        f"{killed} of {len(results)} mutations are noticed ({killed / len(results):.1%}).\n",
        "\n| file | what was changed | first test to fail |\n|---|---|---|\n",
    ]
    for name, found in results.items():
        file, _, what = name.removeprefix("unlearning/").partition(": ")
        told = "**none**" if found is None else f"`{found.removeprefix('tests/')}`"
        row = f"| `{file}` | {what} | {told}".replace("\n", " ")
        lines.append(f"{row} |\n")
    path = HERE / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + BEGIN + "".join(lines) + END + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
