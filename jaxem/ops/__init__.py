"""Operators on arrays that know no model: windows, Fourier transforms, batches, double words, checks of arguments.

Imports only from `runtime`. Each operator is a linear map or an exact sum with a definition in its docstring, so it may
be made faster in any way that keeps the definition; tests hold every one against NumPy and against its adjoint.
"""
