"""From given parameters to a `Fit`: the EM loop, its schedule and stopping rule, acceleration, gradients, diagnostics.

Imports from `model` and what lies below. The test of convergence is `em.EM._judge`, with its `Outcome`; the limit of
iterations is `is_running`, the early end of a schedule is in `_update_state`; `gradient` has a test of its own. Another
optimiser is written against `steps.expectation` and `steps.update`, without a look at how images are stored.
"""
