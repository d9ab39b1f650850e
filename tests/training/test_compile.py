"""`module.compile()` compiles the decoder; what would compile nothing, or fail late, is refused."""

from __future__ import annotations

import pytest
import torch

from unlearning import UnlearningModule
from unlearning.errors import ConfigError

LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def graphs():
    """The graphs that were compiled, and a backend that runs them as they are."""
    torch._dynamo.reset()
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    yield found, backend
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_a_compiled_decoder_trains_as_before(make_model, make_data, quiet_trainer, graphs, lora):
    found, backend = graphs
    modules = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = UnlearningModule(make_model(), lora=lora, learning_rate=1e-3)
        if compiled:
            module.compile(backend=backend)
        quiet_trainer(max_steps=2).fit(module, make_data())
        modules.append(module)
        assert bool(found) == compiled
    plain, compiled = modules
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_a_compiled_module_is_refused_with_the_way_that_works(model, make_data, quiet_trainer):
    module = UnlearningModule(model)
    trainer = quiet_trainer(max_steps=1)
    with pytest.raises(ConfigError, match=r"module\.compile\(\.\.\.\)"):
        trainer.fit(torch.compile(module, backend="eager"), make_data())
    assert trainer.global_step == 0
    trainer.fit(module, make_data())
    assert trainer.global_step == 1


def test_a_compiled_model_is_refused(model):
    with pytest.raises(
        ConfigError, match=r"the output of torch\.compile, which renames its weights"
    ):
        UnlearningModule(torch.compile(model, backend="eager"))
