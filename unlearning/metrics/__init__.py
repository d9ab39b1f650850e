"""Metrics of generated answers: harm, similarity, perplexity, memorisation, broken answers, with
confidence intervals.

Every score is a pure function; the `torchmetrics.Metric` class beside it only adds up its
statistics over batches and ranks. Nothing is imported here, so that `generations` and `units`
stay free of torch for the report.
"""
