"""What libraries say on loading a model goes to the run's log file, not to the terminal."""

from __future__ import annotations

import logging
import warnings

import transformers

from unlearning.models.adapter import add_adapter
from unlearning.run.output.console import quiet_libraries, set_up_logging

SAID = "LOAD REPORT: classifier.weight MISSING"


def test_nothing_on_the_terminal_and_all_of_it_in_the_log(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as before a run has its folder
    monkeypatch.setattr(logging.getLogger("unlearning"), "handlers", [])
    quiet_libraries()
    transformers.utils.logging.get_logger("transformers.modeling_utils").warning(SAID)
    assert capsys.readouterr().err == ""
    with warnings.catch_warnings():
        set_up_logging(tmp_path)
        transformers.utils.logging.get_logger("transformers.modeling_utils").warning(SAID)
    logging.captureWarnings(False)
    for handler in logging.getLogger().handlers:
        handler.close()
    assert capsys.readouterr().err == ""
    assert SAID in (tmp_path / "run.log").read_text()


def test_an_adapter_does_not_warn(make_model):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = make_model("llama")
        quiet_libraries()
        add_adapter(model, r=2)
    assert said == []
