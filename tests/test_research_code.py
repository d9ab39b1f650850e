"""Every block of docs/research-code.md works, in the order in which they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import tiny_opt
from sweep.conftest import calls, stand_in  # noqa: F401  (a fixture)

from unlearning import cli
from unlearning.pretrain import train_tokenizer

PAGE = Path(__file__).parents[1] / "docs/research-code.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block of the page; with a title it is a file."""

    language: str
    title: str
    text: str


BLOCKS = [Block(*found) for found in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]
COMMANDS = [
    line
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, forget_examples, retain_examples) -> Path:
    """A working folder with the page's files, records, and a tiny model of the name it uses."""
    folder = tmp_path_factory.mktemp("research")
    texts = [f"{e.prompt} {e.response}" for e in (*forget_examples, *retain_examples)]
    tokenizer = train_tokenizer([*texts, "How do I cheat in exam 1? What is 2 plus 1?"] * 3, 400)
    tiny_opt(len(tokenizer)).save_pretrained(folder / "facebook/opt-125m")
    tokenizer.save_pretrained(folder / "facebook/opt-125m")
    for name, count in (("forget", 20), ("retain", 100)):
        rows = [{"prompt": f"{name} number {n} ?", "response": f"it is {n}"} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for block in BLOCKS:
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    """In that folder, as a person who types the commands."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["unlearn"])
    yield
    sys.modules.pop("mine", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`|.*have no `val_dataloader`")
def test_the_python_blocks_run_in_order(folder):
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(BLOCKS):
        if block.language == "python" and not block.title:
            code = compile(block.text, f"{PAGE.name}, block {number}", "exec")
            exec(code, names)
    assert -1 <= names["cosine"] <= 1
    assert (folder / "unlearned/config.json").is_file()
    assert "forgotten" in (folder / "results/report.html").read_text()
    logged = (folder / "logs/mine/0/hparams.yaml").read_text()
    assert "mismatch_per_prompt: 5" in logged and "learning_rate: 2.0e-06" in logged


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("unlearn ")])
def test_the_commands_are_valid(command, capsys, monkeypatch, stand_in, folder):  # noqa: F811
    monkeypatch.chdir(folder)
    program, *words = shlex.split(command)
    if "-m" in words:
        assert cli._main([*words, "hydra.sweep.dir=s"]) == 0
        assert len(list(folder.glob("s/*/calls.jsonl"))) == 4
        searched = [w for w in calls(folder / "s/0")[0]["words"] if w.startswith("hydra.search")]
        assert searched == [f"hydra.searchpath=['file://{folder}/conf']"]
        return
    assert program == "unlearn" and cli._main([*words, "validate=true"]) == 0
    said = capsys.readouterr().out
    assert "The configuration is valid" in said
    if "mine.StepTimes" in command or "experiment=mine" in command:
        assert "callbacks: 1 of your own (steps)" in said
    if "experiment=mine" in command or "mine.Method" in command:
        assert "method: Method" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("unlearn ")])
def test_the_other_commands_work(command, folder):
    program, *words = shlex.split(command)
    assert program == "python"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, *words], cwd=folder, text=True, capture_output=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    assert "`max_steps=2` reached" in found.stdout + found.stderr


def test_the_page_has_all_of_these():
    assert len([b for b in BLOCKS if b.language == "python"]) >= 12
    assert len(COMMANDS) == 9
    assert {b.title for b in BLOCKS if b.title} == {
        "train.py", "mine.py", "conf/method/push.yaml", "conf/experiment/mine.yaml",
    }  # fmt: skip
