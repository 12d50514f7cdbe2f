"""A random order of very many images of which no list is held: what stands at a place is computed from the place."""

import hashlib
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 8
AT_ONCE: Final = 2**14
"""Places whose images are computed together."""
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST: Final = np.uint64(31)


def permuted(length: int, *, key: str, start: int = 0) -> Iterator[int]:
    """The numbers 0 to `length` - 1 in the order of a key, from a place on; nothing grows with the length.

    Args:
        length: How many there are.
        key: Another one is another order.
        start: Place of the first that is wanted.
    """
    keys = keys_of(key)
    for first in range(start, length, AT_ONCE):
        places = np.arange(first, min(length, first + AT_ONCE), dtype=np.uint64)
        yield from scatter(places, length=length, keys=keys).tolist()


def keys_of(key: str) -> NDArray[np.uint64]:
    """A number of 64 bits for every round."""
    said = hashlib.sha512(key.encode()).digest()
    return np.frombuffer(said, dtype="<u8")[:ROUNDS].astype(np.uint64)


def scatter(places_N: NDArray[np.uint64], *, length: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Where a keyed permutation of 0 to `length` - 1 sends some places.

    A number is a row and a column of a table that is nearly square. Each round adds to one of them a number that is
    drawn by the other, modulo rows or columns, which can be undone; so no two places meet. The table has a few cells
    more than there are numbers: what falls on one of these goes on until it does not.

    Source: the generalised Feistel cipher of Black and Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002),
    with the mixing function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

    Args:
        places_N: Numbers below `length`.
        length: How many there are.
        keys: A number a round.
    """
    rows = math.isqrt(length - 1) + 1
    columns = -(-length // rows)
    rows_u, columns_u, length_u = np.uint64(rows), np.uint64(columns), np.uint64(length)
    sent_N = places_N.copy()
    going = np.ones(len(sent_N), dtype=np.bool_)
    while going.any():
        row, column = np.divmod(sent_N[going], columns_u)
        for number, key in enumerate(keys):
            if number % 2:
                column = (column + _mixed(row, key) % columns_u) % columns_u
            else:
                row = (row + _mixed(column, key) % rows_u) % rows_u
        sent_N[going] = row * columns_u + column
        going = sent_N >= length_u
    return sent_N


def _mixed(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    mixed = values + key  # wraps around, as do the products
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> shift)) * factor
    return mixed ^ (mixed >> _LAST)
