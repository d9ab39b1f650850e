"""Every method's step written the plain way, from the formulas of `docs/methods.md`.

One padded forward of the policy for each role, with logits at every position; a second model for
what the reference says; autograd, and AdamW. No loss, head, layout or reference of the package is
used, so that value and gradient are a check of ours as well as something to time it against.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, logsigmoid, softplus
from torch.nn.utils.rnn import pad_sequence

from unlearning.types import Role, TokenizedExample

Examples = Mapping[Role, Sequence[TokenizedExample]]
IGNORED = -100
REFUSAL = (5, 7)  # tokens that stand for JensUn's "No idea"


class Scored:
    """One padded forward on the answers of a role: logits, and the tokens they predict.

    Args:
        layers: decoder blocks whose output is kept.
    """

    def __init__(
        self, model: Any, examples: Sequence[TokenizedExample], layers: Sequence[int]
    ) -> None:
        ids = [torch.tensor(e.prompt_ids + e.response_ids) for e in examples]
        labels = [torch.tensor((IGNORED,) * len(e.prompt_ids) + e.response_ids) for e in examples]
        ones = [torch.ones_like(row) for row in ids]
        ids_BL, mask_BL, labels_BL = (
            pad_sequence(rows, batch_first=True, padding_value=value)
            for rows, value in ((ids, 0), (ones, 0), (labels, IGNORED))
        )
        self.labels_BL = labels_BL[:, 1:]
        self.states: dict[int, Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                found = output[0] if isinstance(output, tuple) else output
                self.states[layer] = found[:, :-1]

            return hook

        blocks = model.model.decoder.layers
        hooks = [blocks[layer].register_forward_hook(keep(layer)) for layer in layers]
        out = model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False)
        self.logits_BLV: Tensor = out.logits[:, :-1]
        for hook in hooks:
            hook.remove()

    @cached_property
    def targets(self) -> Tensor:
        """[B, L], the tokens to predict; 0 where nothing is scored."""
        return self.labels_BL.clamp(min=0)

    @cached_property
    def nll(self) -> Tensor:
        """[B, L], of the tokens; 0 where nothing is scored."""
        return cross_entropy(self.logits_BLV.mT, self.labels_BL, reduction="none")

    @cached_property
    def log_p(self) -> Tensor:
        """[B, L, V]."""
        return self.logits_BLV.log_softmax(-1)

    def sums(self, values_BL: Tensor) -> Tensor:
        """[B], over each answer's tokens."""
        return (values_BL * (self.labels_BL != IGNORED)).sum(1)

    def means(self, values_BL: Tensor) -> Tensor:
        """[B], over each answer's tokens."""
        return self.sums(values_BL) / (self.labels_BL != IGNORED).sum(1)

    def mean(self, values_BL: Tensor) -> Tensor:
        """Over each answer's tokens, then over answers."""
        return self.means(values_BL).mean()


class Forwards:
    """The forwards of a step, each made when it is first asked for.

    Args:
        progress: t / 2T, with t the step of T.
        cap: of bounded ascent, in nats.
    """

    def __init__(
        self, model: Any, frozen: Any, examples: Examples, layers: Sequence[int] = (),
        progress: float = 0.0, cap: float = 10.0,
    ) -> None:  # fmt: skip
        self.models, self.examples, self.layers = (
            {"policy": model, "frozen": frozen},
            examples,
            layers,
        )
        self.progress, self.cap = progress, cap
        self._made: dict[tuple[str, Role], Scored] = {}

    def __call__(self, role: Role) -> Scored:
        """The policy on a role's answers."""
        return self._scored("policy", role)

    def frozen(self, role: Role) -> Scored:
        """The model before unlearning on a role's answers."""
        with torch.no_grad():
            return self._scored("frozen", role)

    def _scored(self, which: str, role: Role) -> Scored:
        key = which, role
        if key not in self._made:
            self._made[key] = Scored(self.models[which], self.examples[role], self.layers)
        return self._made[key]

    def log_ratio(self, role: Role) -> Tensor:
        """[B] S_ref - S: log p(y) - log p_ref(y) of each answer."""
        return self.frozen(role).sums(self.frozen(role).nll) - self(role).sums(self(role).nll)


Term = Callable[[Forwards], Tensor]


# --- retain terms -----------------------------------------------------------------------------


def nll(role: Role, weight: float = 1.0) -> Term:
    return lambda at: weight * at(role).mean(at(role).nll)


def kl(at: Forwards) -> Tensor:
    """KL(p_ref || p)."""
    now, log_q_BLV = at("retain"), at.frozen("retain").log_p
    return now.mean((log_q_BLV.exp() * (log_q_BLV - now.log_p)).sum(-1))


# --- forget terms -----------------------------------------------------------------------------


def bounded(at: Forwards) -> Tensor:
    f = at("forget")
    return -0.5 * f.mean(f.nll.clamp(max=at.cap))


def npo(at: Forwards, beta: float = 0.1) -> Tensor:
    return (2 / beta * softplus(beta * at.log_ratio("forget"))).mean()


def simnpo(at: Forwards, beta: float = 2.5, gamma: float = 0.0) -> Tensor:
    f = at("forget")
    return 0.1375 * (2 / beta * softplus(gamma - beta * f.means(f.nll))).mean()


def wga(at: Forwards, beta: float = 1.0) -> Tensor:
    f = at("forget")
    return -f.mean((-f.nll.detach()).exp() ** beta * f.nll)


def satimp(at: Forwards, b1: float = 5.0, b2: float = 1.0) -> Tensor:
    f = at("forget")
    p_BL = (-f.nll.detach()).exp()
    return -f.mean(p_BL**b1 * (1 - p_BL) ** b2 * f.nll)


def dpo(at: Forwards, beta: float = 0.1) -> Tensor:
    margin_B = at.log_ratio("alternate") - at.log_ratio("forget")  # one alternate to a prompt
    return (-2 / beta * logsigmoid(beta * margin_B)).mean()


def kto(at: Forwards, beta: float = 0.1) -> Tensor:
    with torch.no_grad():
        z0 = at.log_ratio("mismatch").mean().clamp(min=0)
    return (beta * (at.log_ratio("forget") - z0)).sigmoid().mean()


def flat(at: Forwards) -> Tensor:
    f, a = (at(role).means((-at(role).nll).exp()).tanh().mean() for role in ("forget", "alternate"))
    return (f - a) / 2


def undial(at: Forwards, beta: float = 10.0) -> Tensor:
    f, z_ref_BLV = at("forget"), at.frozen("forget").logits_BLV
    at_y_BLV = torch.zeros_like(z_ref_BLV).scatter_(-1, f.targets[..., None], 1.0)
    return f.mean(-((z_ref_BLV - beta * at_y_BLV).softmax(-1) * f.log_p).sum(-1))


def ceu(at: Forwards) -> Tensor:
    f = at("forget")
    without_BLV = f.logits_BLV.detach().scatter(-1, f.targets[..., None], -torch.inf)
    values_BL = -(without_BLV.softmax(-1) * f.log_p).sum(-1)
    scored_BL = f.labels_BL != IGNORED
    later_BL = scored_BL & (scored_BL.cumsum(1) > 1)  # without an answer's first token
    return ((values_BL * later_BL).sum(1) / later_BL.sum(1)).mean()


def ihl(at: Forwards) -> Tensor:
    f = at("forget")
    p_BLV, y_BL1 = f.logits_BLV.softmax(-1), f.targets[..., None]
    rival_BL = p_BLV.scatter(-1, y_BL1, 0.0).amax(-1)
    return f.mean(1 + p_BLV.gather(-1, y_BL1)[..., 0] - rival_BL)


def me_gd(at: Forwards) -> Tensor:
    f = at("forget")
    return 0.1 * f.mean(-f.log_p.mean(-1) - math.log(f.logits_BLV.shape[-1]))


def jensun_forget(at: Forwards) -> Tensor:
    f = at("forget")
    place_BL = ((f.labels_BL != IGNORED).cumsum(1) - 1).clamp(min=0)
    token_BL1 = torch.tensor(REFUSAL)[place_BL % len(REFUSAL)][..., None]
    p_BLV = f.log_p.exp()
    log_m_BLV = ((p_BLV + torch.zeros_like(p_BLV).scatter_(-1, token_BL1, 1.0)) / 2).log()
    of_p_BL = (p_BLV * (f.log_p - log_m_BLV)).sum(-1)
    return f.mean((of_p_BL - log_m_BLV.gather(-1, token_BL1)[..., 0]) / 2)


def jensun_retain(at: Forwards) -> Tensor:
    log_p_BLV, log_q_BLV = at("retain").log_p, at.frozen("retain").log_p
    p_BLV, q_BLV = log_p_BLV.exp(), log_q_BLV.exp()
    log_m_BLV = ((p_BLV + q_BLV) / 2).log()
    both_BLV = p_BLV * (log_p_BLV - log_m_BLV) + q_BLV * (log_q_BLV - log_m_BLV)
    return at("retain").mean(both_BLV.sum(-1) / 2)


def pdu(at: Forwards) -> Tensor:
    z_BLV = at("forget").logits_BLV
    return at("forget").mean((z_BLV.amax(-1) - z_BLV.mean(-1)) ** 2)


def unit(width: int) -> Tensor:
    """RMU's random direction."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn / drawn.norm()).float()


def rmu(at: Forwards, c: float = 6.5) -> Tensor:
    h_BLD = at("forget").states[at.layers[0]]
    return at("forget").mean(((h_BLD - c * unit(h_BLD.shape[-1])) ** 2).mean(-1))


def adaptive_rmu(at: Forwards, beta: float = 5.0) -> Tensor:
    h_BLD, ref_BLD = (side("forget").states[at.layers[0]] for side in (at, at.frozen))
    target_BLD = beta * ref_BLD.norm(dim=-1, keepdim=True) * unit(h_BLD.shape[-1])
    return at("forget").mean(((h_BLD - target_BLD) ** 2).mean(-1))


def hold(at: Forwards) -> Tensor:
    h_BLD, ref_BLD = (side("retain").states[at.layers[0]] for side in (at, at.frozen))
    return 1200 * at("retain").mean(((h_BLD - ref_BLD) ** 2).mean(-1))


def reroute(at: Forwards, alpha: float = 10.0) -> Tensor:
    now, before = at("forget"), at.frozen("forget")
    cosines = [cosine_similarity(now.states[n], before.states[n], dim=-1) for n in at.layers]
    mean = torch.stack([now.mean(cosine.relu()) for cosine in cosines]).mean()
    return alpha * (1 - at.progress) * mean


def keep(at: Forwards, alpha: float = 10.0) -> Tensor:
    now, before = at("retain"), at.frozen("retain")
    moved = [now.mean((now.states[n] - before.states[n]).norm(dim=-1)) for n in at.layers]
    return alpha * at.progress * torch.stack(moved).mean()


ASCENT, MISMATCH, RETAIN = nll("forget", -1.0), nll("mismatch"), nll("retain")
BOUNDED = {"forget": bounded, "mismatch": MISMATCH, "retain": kl}
METHODS: dict[str, dict[str, Term]] = {
    "paper": {"forget": nll("forget", -0.5), "mismatch": MISMATCH, "retain": kl},
    "bounded": BOUNDED,
    "graddiff": {"forget": ASCENT, "retain": RETAIN},
    "npo": {"forget": npo, "retain": RETAIN},
    "simnpo": {"forget": simnpo, "retain": RETAIN},
    "wga": {"forget": wga, "retain": kl},
    "satimp": {"forget": satimp, "retain": nll("retain", 0.1)},
    "idk_nll": {"forget": nll("alternate"), "retain": RETAIN},
    "dpo": {"forget": dpo, "retain": RETAIN},
    "idk_dpo": {"forget": dpo, "retain": RETAIN},
    "kto": {"forget": kto, "retain": RETAIN},
    "flat": {"forget": flat},
    "undial": {"forget": undial},
    "ceu": {"forget": ceu},
    "ihl": {"forget": ihl, "retain": RETAIN},
    "me_gd": {"forget": me_gd, "retain": RETAIN},
    "jensun": {"forget": jensun_forget, "retain": jensun_retain},
    "rmu": {"forget": rmu, "retain": hold},
    "adaptive_rmu": {"forget": adaptive_rmu, "retain": hold},
    "rerouting": {"forget": reroute, "retain": keep},
    "gru": {"forget": ASCENT, "retain": RETAIN},
    "pdu": {"forget": pdu, "retain": nll("retain", 100.0)},
    "sam": BOUNDED,
    "on_policy": BOUNDED,
}
"""The weighted terms of each method, with the weights of docs/methods.md."""


class PlainStep:
    """A method's step: forward, backward and AdamW.

    Args:
        layers: decoder blocks whose output the terms read.
        trained: a pattern of the trained weights' names; all others are frozen.
        cap: of bounded ascent, in nats.
    """

    def __init__(
        self, name: str, model: Any, frozen: Any, layers: Sequence[int] = (), trained: str = "",
        cap: float = 10.0,
    ) -> None:  # fmt: skip
        self.model, self.frozen = model, frozen.eval().requires_grad_(False)
        self.name, self.terms, self.layers, self.cap = name, METHODS[name], layers, cap
        for weight, parameter in model.named_parameters():
            parameter.requires_grad_(re.search(trained, weight) is not None)
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=2e-6, fused=True)
        self.progress = 0.0  # t / 2T
        self.smoothed: list[Tensor] = []  # GRU's retain gradient of the steps before

    def step(self, examples: Examples) -> None:
        self.backward(examples)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, examples: Examples) -> list[float]:
        """Leaves the step's gradient at the weights, and returns the weighted terms."""
        if self.name == "sam":
            return self._sam(examples)
        if self.name == "gru":
            return self._gru(examples)
        at = self._at(examples)
        losses = [term(at) for term in self.terms.values()]
        torch.stack(losses).sum().backward()
        return [float(loss) for loss in losses]

    def _at(self, examples: Examples) -> Forwards:
        return Forwards(self.model, self.frozen, examples, self.layers, self.progress, self.cap)

    def _gradient(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.weights))

    def _sam(self, examples: Examples, rho: float = 0.01) -> list[float]:
        """The forget term's gradient at theta + rho g / norm(g), that of the others at theta."""
        forget = self.terms["forget"](self._at(examples))
        ascent = self._gradient(forget)
        scale = rho / torch.stack([g.norm() for g in ascent]).norm()
        saved = [p.detach().clone() for p in self.weights]
        with torch.no_grad():
            for p, g in zip(self.weights, ascent, strict=True):
                p += scale * g
        self.terms["forget"](self._at(examples)).backward()
        with torch.no_grad():
            for p, before in zip(self.weights, saved, strict=True):
                p.copy_(before)
        at = self._at(examples)
        others = [term(at) for name, term in self.terms.items() if name != "forget"]
        torch.stack(others).sum().backward()
        return [float(loss) for loss in (forget, *others)]

    def _gru(self, examples: Examples, gamma: float = 0.8) -> list[float]:
        """The forget gradient without what opposes the smoothed retain gradient."""
        at = self._at(examples)
        forget, retain = (self.terms[name](at) for name in ("forget", "retain"))
        u, r = self._gradient(forget), self._gradient(retain)
        before = self.smoothed or [torch.zeros_like(g) for g in r]
        self.smoothed = [gamma * g + (1 - gamma) * old for g, old in zip(r, before, strict=True)]
        product, square = (_inner(g, self.smoothed) for g in (u, self.smoothed))
        share = min(0.0, product) / square
        for p, g, s in zip(self.weights, u, self.smoothed, strict=True):
            p.grad = g - share * s
        return [float(forget), float(retain)]


def _inner(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))
