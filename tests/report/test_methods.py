"""How intervals were made is said beside them, and that there is none is a dash."""

from __future__ import annotations

import pytest

from unlearning.report import model_card, write_report
from unlearning.report.figures import figure
from unlearning.report.methods import NO_INTERVAL, ONE_MODEL, method_of
from unlearning.report.tables import cell, metric_tables

DASH = "\N{EN DASH}"


def entry(value, low, high, method, n=84):
    return {"value": value, "low": low, "high": high, "n": n, "method": method}


@pytest.fixture
def metrics(metrics):
    """With rates at 0 and 100 %, and a BLEU that never moves."""
    key = "harmful_heldout/harmful_rate"
    metrics["before"][key] = entry(1.0, 0.9455, 1.0, "wilson_cc")
    metrics["after"][key] = entry(0.0, 0.0, 0.0545, "wilson_cc")
    metrics["change"][key] = entry(-1.0, -1.0, -0.9229, "newcombe_paired") | {"mcnemar_p": 1e-25}
    metrics["after"]["harmful_heldout/effectiveness"] = entry(100.0, 94.2, 100.0, "mover_r")
    for name in ("retain_heldout", "related"):
        metrics["before"][f"{name}/broken_rate"] = entry(0.0, 0.0, 0.0545, "wilson_cc")
    metrics["before"]["retain_heldout/bleu_to_original"] = entry(100.0, None, None, None)
    metrics["after"]["retain_heldout/bleu_to_original"] = entry(100.0, None, None, None)
    return metrics


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("wilson_cc", "Wilson, corrected"),
        ("newcombe_paired", "Newcombe, paired"),
        ("cluster_bootstrap", "bootstrap by prompt"),
        ("percentile bootstrap", "bootstrap"),
        ("three sigma", "three sigma"),
        (None, "bootstrap"),  # a file of version 0.4
    ],
)
def test_methods_in_words(method, said):
    assert method_of(figure(entry(0.5, 0.4, 0.6, method))) == said
    assert method_of(figure(entry(0.5, None, None, method))) == ""


def test_rows_name_the_methods_of_values_and_change(metrics):
    rows = {row.label: row for table in metric_tables(metrics) for row in table.rows}
    assert rows["Harmful answers"].methods == "Wilson, corrected; change: Newcombe, paired"
    assert rows["Effectiveness E"].methods == "MOVER-R"
    bleu = rows["BLEU to the original model's answers"]
    assert [c.small for c in bleu.cells[:2]] == [DASH, DASH]
    assert bleu.methods == ""


def test_a_dash_is_for_what_was_measured_alone():
    assert cell(figure(entry(0.5, None, None, None)), "rate").small == DASH
    assert cell(figure(entry(None, None, None, None)), "rate").small == ""
    assert cell(figure(0.98), "rate").small == ""  # a bare number has no place for one
    assert cell(figure(entry(0.0, 0.0, 0.0545, "wilson_cc")), "rate").small == "0.0 to 5.5\xa0%"


def test_page_and_card_say_how_and_of_what(metrics, make_run):
    page = write_report(make_run(metrics)).read_text()
    card = model_card(metrics, {})
    for text in (page, card):
        assert ONE_MODEL in text and NO_INTERVAL in text
        assert "Wilson, corrected; change: Newcombe, paired" in text and "MOVER-R" in text
        assert "0.0 to 5.5\xa0%" in text and "0.0 to 0.0" not in text
        assert "paired bootstrap" not in text
    assert f"100.0 ({DASH})" in card
    assert f'<span class="ci">{DASH}</span>' in page


def test_a_folder_without_methods_is_reported_as_a_bootstrap(metrics, make_run):
    for part in ("before", "after", "change"):
        for found in metrics[part].values():
            if found is not None:
                found.pop("method", None)
    page = write_report(make_run(metrics)).read_text()
    assert "Wilson" not in page and ">bootstrap<" in page
