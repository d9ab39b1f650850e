"""What is no command line of one run is refused before Hydra starts."""

from __future__ import annotations

import pytest
from hydra.errors import MissingConfigException

from unlearning.errors import ConfigError
from unlearning.run.config.one_run import check_one_run, run_composed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "'demo' is no setting.*experiment=demo"),
        (["experiment=demo", "seed=", "1"], "'1' is no setting"),
        (["experiment=demo", "seed=0,1"], "seed=0,1 holds several values.*unlearn -m"),
        (["experiment=demo", "description=a, b"], "several values.*quoted twice"),
        (["experiment=demo,harmful"], "several values"),
        (["sweep.resume=/tmp/x"], "unlearn -m sweep.resume=/tmp/x"),
    ],
)
def test_it_is_said_what_to_type(arguments, said):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        check_one_run(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=demo", "--cfg", "job"],
        ["--help"],
        ["sweep.resume=null", "logger=[csv,tensorboard]"],
        ["experiment=demo", "description='a, b'", "hydra.run.dir='a folder, with = in it'"],
        ["experiment=demo", "~data.related"],
    ],
)
def test_what_is_one_run_passes(arguments):
    check_one_run(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiment=demo", "~foo"], "Could not delete"),
        (["experiment=demo", "seed.x=1"], "seed"),
        (["experiment=demo", "hydra.run.dir='${nowhere}'"], "nowhere"),
    ],
)
def test_what_does_not_compose_starts_nothing(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        run_composed(arguments, lambda config: pytest.fail("it was started"))
    assert not list(tmp_path.iterdir())


def test_the_job_gets_what_was_composed(tmp_path):
    configs = []
    run_composed(["experiment=demo", "seed=3", f"hydra.run.dir={tmp_path}/a"], configs.append)
    assert configs[0].name == "demo" and configs[0].seed == 3 and "hydra" not in configs[0]
    assert (tmp_path / "a").is_dir()


def test_an_error_of_the_job_stays_what_it_is(tmp_path):
    def job(config):
        raise MissingConfigException("the job's own")

    with pytest.raises(MissingConfigException, match="the job's own"):
        run_composed(["experiment=demo", f"hydra.run.dir={tmp_path}"], job)
