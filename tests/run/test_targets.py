"""What a configuration names is called only where it is of the kind that its key expects."""

from __future__ import annotations

import pytest
from lightning import Callback
from omegaconf import OmegaConf

from unlearning.cli import main
from unlearning.data.examples import ExampleDataModule
from unlearning.errors import ConfigError
from unlearning.losses import TokenLosses
from unlearning.objective import Objective
from unlearning.run.checks.targets import check_targets
from unlearning.run.checks.validate import validate
from unlearning.run.config.method import check_method
from unlearning.run.config.overrides import check_overrides
from unlearning.run.config.schema import check_schema
from unlearning.run.config.targets import build, check_target

CALLABLES = (
    "os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "pickle.loads", "torch.load",
    "pandas.read_pickle", "joblib.load", "functools.partial", "builtins.print",
    "shutil.rmtree", f"{__name__}.recorded", f"{__name__}.Recorder",
)  # fmt: skip
CALLS = []


def recorded(*arguments, **options):
    """What a loader from elsewhere stands for: it must never be reached."""
    CALLS.append((arguments, options))


class Recorder:
    def __init__(self, *arguments, **options):
        CALLS.append((arguments, options))


def makes_a_callback() -> Callback:
    return Callback()


class Wrapping(Callback):
    """Takes objects: one by its class, some in a list, and one that it does not describe."""

    def __init__(self, inner: Callback | None = None, several: list[Callback] = (), free=None):
        self.inner, self.several, self.free = inner, several, free


BAD = "{_target_: place.holder}"
SET, WRAPPING = "evaluation.prompt_sets.related", f"{{_target_: {__name__}.Wrapping"
KEYS = {
    "data.forget": "data.forget._target_=place.holder",
    "data.retain": "data.retain._target_=place.holder",
    "data.mine": f"+data.mine={BAD}",
    "data.alternate": f"data.alternate={BAD}",
    f"{SET}.source": f"{SET}.source={BAD}",
    f"{SET}.metrics": f"+{SET}.metrics=[{BAD}]",
    "evaluation.aggregates.x": f"+evaluation.aggregates.x={{metric: {BAD}, of: [a]}}",
    "model.base.data": "model.base.data._target_=place.holder",
    "model.base.data.examples": f"model.base.data.examples=[{BAD}]",
    "classifier.train.data": "classifier.train.data._target_=place.holder",
    "classifier.tiny.tokenizer": f"classifier.tiny.tokenizer={BAD}",
    "method": "method._target_=place.holder",
    "method.rule": f"method.rule={BAD}",
    "callbacks.mine": f"+callbacks.mine={BAD}",
    "callbacks.mine.inner": f"+callbacks.mine={WRAPPING}, inner: {BAD}}}",
    "callbacks.mine.several": f"+callbacks.mine={WRAPPING}, several: [{BAD}]}}",
    "callbacks.mine.free": f"+callbacks.mine={WRAPPING}, free: {BAD}}}",
    "logger.mine": f"+logger.mine={BAD}",
    "trainer.strategy": f"trainer.strategy={BAD}",
    "trainer.profiler": f"+trainer.profiler={BAD}",
    "trainer.plugins": f"+trainer.plugins=[{BAD}]",
    "unlearn.optimizer": "unlearn.optimizer=place.holder",
    "objective.forget.loss": "objective.forget.loss=place.holder",
}


@pytest.fixture(scope="module")
def refuse(compose_config):
    """Checks a key with each of the callables: all are refused, and none was called."""

    def refuse(key):
        CALLS.clear()
        text = OmegaConf.to_yaml(compose_config("experiment=demo", KEYS[key]))
        own = f"{__name__}.recorded" if key.endswith("loss") else None  # could be a loss
        for path in CALLABLES:
            if path == own:
                continue
            config = OmegaConf.create(text.replace("place.holder", path))
            check_schema(config)
            with pytest.raises(ConfigError) as refused:
                check_targets(config)
                check_method(config)
                validate(config)
            assert key in str(refused.value) or path in str(refused.value), path
        assert CALLS == []

    return refuse


@pytest.mark.parametrize("key", KEYS)
def test_what_is_of_another_kind_is_refused_and_not_called(refuse, key):
    refuse(key)


@pytest.mark.parametrize(
    "word", ["_partial_: true", "_args_: [x]", "_recursive_: false", "_convert_: all"]
)
def test_hydras_other_words_are_refused(compose_config, word):
    node = f"+callbacks.mine={{_target_: lightning.Callback, {word}}}"
    with pytest.raises(ConfigError, match=f"callbacks.mine.{word.partition(':')[0]}"):
        check_schema(compose_config("experiment=demo", node))


def test_what_is_of_the_right_kind_is_made_with_what_stands_in_it():
    node = {"_target_": "lightning.Callback"}
    wrapping = {"_target_": f"{__name__}.Wrapping", "inner": node, "several": [node, node]}
    made = build(wrapping, Callback, "callbacks.mine")
    assert [type(each) for each in (made.inner, *made.several)] == [Callback] * 3


def test_a_function_has_to_declare_what_it_returns():
    node = {"_target_": f"{__name__}.makes_a_callback"}
    assert isinstance(build(node, Callback, "callbacks.mine"), Callback)
    with pytest.raises(ConfigError, match="It was not called"):
        check_target(node, ExampleDataModule, "data.forget")


def plain_loss(tokens, power=1.0):
    return tokens.nll.pow(power).mean()


def annotated(tokens: TokenLosses):
    return tokens.nll.mean()


@pytest.mark.parametrize("name", ["plain_loss", "annotated"])
def test_a_function_of_ones_own_is_a_loss(name):
    Objective({"forget": {"loss": f"{__name__}.{name}", "role": "forget"}})


@pytest.mark.parametrize("path", ["subprocess.getoutput", "torch.hub.load", "os.system"])
def test_a_function_of_a_library_is_none(path):
    with pytest.raises(ConfigError, match="is no loss, and was not called"):
        Objective({"forget": {"loss": path, "role": "forget"}})


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {callbacks: {x: {_target_: os.system, command: 'true'}}}",
        "hydra: {sweeper: {params: {x: {_target_: subprocess.Popen}}}}",
        "hydra: {job_logging: {version: 1, handlers: {x: {class: subprocess.Popen}}}}",
        "hydra: {hydra_logging: {version: 1, formatters: {x: {'()': builtins.eval}}}}",
    ],
)
def test_hydras_own_part_of_a_folder_from_elsewhere_calls_nothing(tmp_path, text):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/theirs.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(ConfigError, match=r"^hydra\..* is not taken"):
        check_overrides([f"hydra.searchpath=[file://{tmp_path}]", "experiment=theirs"])


def test_a_run_folder_from_elsewhere_is_checked_like_any_configuration(
    compose_config, tmp_path, monkeypatch, capsys
):
    CALLS.clear()
    config = compose_config("experiment=demo", f"+callbacks.mine={WRAPPING}, inner: {BAD}}}")
    text = OmegaConf.to_yaml(config, resolve=True).replace("place.holder", f"{__name__}.recorded")
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.setattr("sys.argv", ["unlearn", f"resume={tmp_path}"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "callbacks.mine.inner" in capsys.readouterr().err
    assert CALLS == []


def test_a_run_folder_from_elsewhere_reads_nothing_of_the_environment(
    compose_config, tmp_path, monkeypatch, capsys
):
    config = compose_config("experiment=demo")
    config.description = "${oc.env:SOMETHING_OWN}"
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config))
    monkeypatch.setattr("sys.argv", ["unlearn", f"resume={tmp_path}"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "description in" in capsys.readouterr().err


@pytest.mark.parametrize("cleanup", [None, UnboundLocalError, ConfigError])
def test_ctrl_c_while_modules_are_imported_is_a_line(monkeypatch, capsys, cleanup):
    def pressed(arguments):
        try:
            raise KeyboardInterrupt
        finally:
            if cleanup is not None:
                raise cleanup("in the clean-up of a library")

    monkeypatch.setattr("unlearning.cli._main", pressed)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "\nStopped before the run began.\n"
