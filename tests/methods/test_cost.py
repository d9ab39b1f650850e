"""What a step of each method costs, counted: forwards of policy and reference, their tokens, logits
held."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import get_class
from speed.counting import Watch

from unlearning.methods.weight_edit import WeightEdit
from unlearning.models.decoder import unwrap
from unlearning.run.config.method import build_module
from unlearning.run.config.overrides import config_folder

METHODS = sorted(path.stem for path in (config_folder() / "method").glob("*.yaml"))
VOCABULARY, CHUNK = 96, 8
WIDTH = 32  # rows of the head, transposed

# Forwards of the policy's decoder and of the reference's in a step, where the reference is a copy.
FORWARDS = {
    "sam": (3, 1),  # the forget term at two places, the others once
    "gru": (2, 0),  # the gradients of forgetting and of retaining apart
    **dict.fromkeys(
        (
            "simnpo",
            "graddiff",
            "satimp",
            "ceu",
            "ihl",
            "me_gd",
            "idk_nll",
            "flat",
            "pdu",
            "loku",
        ),
        (1, 0),
    ),
}
READS = {  # the roles of each forward of the policy, where that is not one of all terms
    "sam": [{"forget"}, {"forget"}, {"mismatch", "retain"}],
    "gru": [{"forget"}, {"retain"}],
}
TINY = {
    "rmu": ("method.layer=1",),
    "adaptive_rmu": ("method.layer=1",),
    "rerouting": ("method.layers=[0,1]",),
    "jensun": ("method.refusal=[5,7]",),
    "loku": ("model.lora={r: 4, alpha: 8, dropout: 0.0, target_modules: all-linear}",),
}


@pytest.fixture
def stepped(compose_config, make_model, make_data):
    """Makes a step of a method, and tells what it did."""

    def run(name: str):
        words = ("reference.mode=copy", "model.lora=null", *TINY.get(name, ()))
        config = compose_config(f"method={name}", *words)
        if issubclass(get_class(config.method._target_), WeightEdit):
            pytest.skip("no unlearning step")
        module = build_module(config, make_model(), None)
        module._batch_loss.chunk_size = CHUNK
        module.build_reference()
        data = make_data(alternate=["the sky is blue", "in the cold sun"])
        data.setup()
        data.forwards = module.forwards
        tokens: dict[str, list[int]] = {"policy": [], "reference": []}
        counts = {"policy": 0, "reference": 0}

        def counting(which: str):
            def count(_, __, inputs):
                counts[which] += 1
                # All but the first token of a tree, and no pads.
                tokens[which].append(int((inputs["position_ids"] > 0).sum()))

            return count

        models = {"policy": module.policy}
        if module.reference is not None:
            models["reference"] = module.reference._model[0]
        for which, model in models.items():
            unwrap(model).get_decoder().register_forward_pre_hook(counting(which), with_kwargs=True)
        logits: list[int] = []

        def saw(func, args, output) -> None:
            for tensor in output if isinstance(output, tuple | list) else [output]:
                if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (VOCABULARY,):
                    logits.append(tensor.numel() // VOCABULARY)

        batch = data.batch_at(0)
        with Watch(saw):
            if module.rule is None:
                module.loss(batch).total.backward()
            else:
                module.rule.gradient(module.term_gradients(batch))
        objective = module.objective
        compared = objective.reference_roles.union(*objective.reference_layers.values())
        if compared - {"retain"}:  # other answers to a prompt stand beside them
            compared |= objective.roles - {"retain"}
        reads = {
            "policy": READS.get(name, [objective.roles]),
            "reference": [compared] * counts["reference"],
        }
        trees = data.trees_at(0)

        def least(roles) -> int:
            kept = [tree.only(a.role in roles for a in tree.answers) for tree in trees]
            return sum(tree.length - 1 for tree in kept if tree.answers)

        return counts, logits, tokens, {who: [*map(least, of)] for who, of in reads.items()}

    return run


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_one_forward_and_one_of_a_reference_and_holds_a_chunk_of_logits(name, stepped):
    """And no forward has a branch that it does not read: of mismatch and alternate answers there
    are some for every method."""
    counts, logits, tokens, least = stepped(name)
    assert tokens == least
    assert (counts["policy"], counts["reference"]) == FORWARDS.get(name, (1, 1))
    assert max((rows for rows in logits if rows != WIDTH), default=0) <= CHUNK
