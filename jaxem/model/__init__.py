"""The statistical model as pure formulas: parameters, likelihood, the two steps of EM, the objective they raise.

Imports from `ops` and `runtime`. Every formula stands here once; what solvers do with it does not matter here. What is
given with the images (weights) starts in `frames` and `images`, what is to be found in `params`. Both reach every file
of this folder, and what knows the model outside it: `solvers.diagnostics`, `solvers.unconstrained`,
`search.initialization`, `search.recentring`, `search.multiscale`, `assess.significance`, and `assess.reference`, the
enumeration that judges it all and is changed first.
"""
