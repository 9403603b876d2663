"""From images to the best `Fit`: starting points, the stages of a search, restarts, and the threads they run on.

Imports from `solvers` and what lies below. These are heuristics: the benchmark over planted problems judges them, and
any of them may be changed without touching a formula, since a run is the same wherever it starts.
"""
