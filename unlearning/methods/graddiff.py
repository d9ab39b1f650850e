"""Gradient difference (GradDiff): ascent on what to forget, descent on what to keep.

    L = -mean NLL(forget answers)  +  alpha mean NLL(retain answers)

As arXiv 2401.06121 (TOFU), Section 4.1 compares it, after arXiv 2203.12817. Like the paper's own
forget term it has no lower bound. It is the frame of the other losses that look at the NLL alone,
which change its forget term.
"""

from __future__ import annotations

from typing import Any

GRADDIFF_TERMS: dict[str, dict[str, Any]] = {
    "forget": {"loss": "unlearning.losses.gradient_ascent", "role": "forget", "weight": 1.0},
    "retain": {"loss": "unlearning.losses.nll", "role": "retain", "weight": 1.0},
}
"""Without mismatch answers, which are of arXiv 2405.15152."""
