"""Splitting an axis and cutting a tensor into pieces, with types that a checker can follow."""

from collections.abc import Sequence

from torch import Tensor


def unfold_axis(values: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis -> several, in row-major order; one of the sizes may be -1."""
    axis = axis % values.ndim
    return values.reshape(*values.shape[:axis], *sizes, *values.shape[axis + 1 :])


def pieces(values: Tensor, at_once: int | None, *, axis: int) -> tuple[Tensor, ...]:
    """The tensor cut along an axis into pieces of at most `at_once`; whole if None."""
    if at_once is None:
        return (values,)
    parts: tuple[Tensor, ...] = values.split(at_once, dim=axis)  # type: ignore[no-untyped-call]
    return parts
