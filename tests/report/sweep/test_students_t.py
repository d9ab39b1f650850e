from __future__ import annotations

import pytest

from unlearning.report.sweep.students_t import two_sided


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # of any printed table, 97.5 % one-sided
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)],
)
def test_quantiles_are_those_of_the_tables(freedom, quantile):
    assert two_sided(freedom) == pytest.approx(quantile, rel=1e-5)


def test_quantiles_agree_with_scipy_for_other_levels():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 5, 8, 199):
        for confidence in (0.5, 0.9, 0.99):
            expected = stats.t.ppf(0.5 + confidence / 2, freedom)
            assert two_sided(freedom, confidence) == pytest.approx(expected, rel=1e-9)
