"""Metrics of generated answers: harm, similarity, perplexity, memorisation, broken answers, with
confidence intervals.

A metric is one function of a model's answers, declared beside it with `metric`; `compare` computes
those of every prompt set for one model or several. Nothing is imported here, so that `generations`
stays free of torch for the report.
"""
