"""Build the wheel, install it beside the environment's packages, and use it from an empty folder.

Run by `make check-wheel`; not a pytest test, since it builds with the network's help.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


KINDS = {".py", ".pyi", ".typed", ".yaml", ".txt", ".j2", ".css", ".js"}
"""Of files in the package: no weights, no records."""


def check_content(names: list[str]) -> None:
    """Exits where the wheel holds anything but the package's code and settings."""
    inside = [name for name in names if ".dist-info/" not in name]
    strange = [n for n in inside if Path(n).suffix not in KINDS or not n.startswith("unlearning/")]
    if strange:
        sys.exit(f"the wheel holds what is no part of the package: {', '.join(strange)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, CHECKOUT], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            check_content(archive.namelist())
        site, empty = folder / "site", folder / "empty"
        subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
        empty.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(site),
            "UNLEARNING_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        run = subprocess.run(
            [sys.executable, "-m", "unlearning.cli", "experiment=demo", "trainer=debug"],
            cwd=empty, env=environment, text=True, capture_output=True,
        )  # fmt: skip
        if run.returncode:
            sys.exit(f"the wheel's demo failed:\n{run.stdout}\n{run.stderr}")
        where = [sys.executable, "-c", "import unlearning; print(unlearning.__file__)"]
        used = subprocess.run(where, cwd=empty, env=environment, text=True, capture_output=True)
        if str(site) not in used.stdout:
            sys.exit(f"not the wheel was used but {used.stdout}")
        (report,) = empty.glob("runs/demo/*/report.html")
        print(f"the wheel works on its own: {wheel.name}, {report.stat().st_size} bytes of report")


if __name__ == "__main__":
    main()
