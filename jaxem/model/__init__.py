"""The statistical model as pure formulas: parameters, likelihood, the two steps of EM, the objective they raise.

Imports from `ops` and `runtime`. Every formula stands here once; what solvers do with it does not matter here. A
change of the model (a mask, a second template) starts in `params` and `likelihood`; tests against enumeration judge it.
"""
