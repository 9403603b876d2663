"""From given parameters to a `Fit`: the EM loop, its schedule and stopping rule, acceleration, gradients, diagnostics.

Imports from `model` and what lies below. A stopping rule is changed in `em.EM._judge`, with its `Outcome`; another
optimiser is written against `steps.expectation` and `steps.update`, without a look at how images are stored.
"""
