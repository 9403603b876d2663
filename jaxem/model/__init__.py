"""The statistical model as pure formulas: parameters, likelihood, the two steps of EM, the objective they raise.

Imports from `ops` and `runtime`. Every formula stands here once; what solvers do with it does not matter here. What is
given with the images (a mask, weights) starts in `images`, what is to be found (a second template) in `params`; both go
on to `likelihood`, `statistics`, `steps` and `objective`, and tests against enumeration judge them.
"""
