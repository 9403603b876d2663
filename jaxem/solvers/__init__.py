"""From given parameters to a `Fit`: the EM loop, its schedule and stopping rule, acceleration, gradients, diagnostics.

Imports from `model` and what lies below. A new stopping rule or optimiser is written here, against `steps.expectation`
and `steps.update`, without a look at how images are stored or where starting points come from.
"""
