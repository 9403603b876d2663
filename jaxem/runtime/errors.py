"""Errors that know which argument they are about, so that a command line can spell it in its own way."""

from __future__ import annotations


class ArgumentError(Exception):
    """An argument that cannot be used.

    Args:
        argument: its name, such as ``template_shape`` or ``params.background``.
        problem: what is wrong with it, in words that follow its name.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(argument, problem)
        self.argument, self.problem = argument, problem

    def __str__(self) -> str:
        return f"{self.argument} {self.problem}"


class ArgumentValueError(ArgumentError, ValueError):
    """The right kind of thing, but a value or a shape that does not fit."""


class ArgumentTypeError(ArgumentError, TypeError):
    """The wrong kind of thing."""


class DifferentiationError(TypeError):
    """A derivative was asked for in reverse mode of what has it in forward mode alone.

    Args:
        function: the public name of what was differentiated.
    """

    def __init__(self, function: str) -> None:
        super().__init__(
            f"jaxem.{function} has no derivative in reverse mode (jax.grad, jax.vjp, jax.jacrev): it iterates until it "
            "converges. Differentiate jaxem.log_likelihood or jaxem.elbo at the parameters that it found, or use "
            "forward mode (jax.jvp, jax.jacfwd)."
        )
        self.function = function

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.function,)


class CheckpointError(ArgumentError):
    """The folder of checkpoints cannot be used; says why in one sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__("checkpoint", problem)

    def __str__(self) -> str:
        return self.problem

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.problem,)


class OutputError(ArgumentError, OSError):
    """The results cannot be written; says where and why in one sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__("out", problem)

    def __str__(self) -> str:
        return self.problem

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.problem,)


class ProcessesError(RuntimeError):
    """Processes that should work together cannot, or no longer; says why in one sentence."""


class StoppedError(Exception):
    """Another thread asked to stop."""
