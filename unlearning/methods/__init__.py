"""Unlearning methods, one file each: what a run does to the policy.

A method is what `method._target_` of a configuration names, and `method=<name>` picks a file of
`conf/method/`. There are three kinds:

- **A loss.** Functions of `TokenLosses`, or token quantities, as terms of `objective`; the method
  itself is `UnlearningModule`. What a loss needs (the reference, hidden states of a layer, a
  quantity of the logits) is declared on the function. `paper` is the first; a subclass of
  `UnlearningModule`, such as `rmu.RMU`, may add arguments, choose the trained weights, or override
  `loss(batch)`.
- **A step rule.** A `StepRule` makes the gradient of a step from the gradients of the terms:
  `sam.SAM`. It is the argument `rule` of any module.
- **Weight arithmetic.** A `WeightEdit` changes the weights without an unlearning step:
  `task_vector.TaskVector`.

All of them run under the same command line, resume, run on several devices and write the same
report.
"""
