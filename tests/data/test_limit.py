import pytest

from clipself.data.limit import first_of


def test_the_first_are_taken_as_far_as_there_are_any() -> None:
    assert [first_of(5, limit) for limit in (None, 1, 5, 6)] == [5, 1, 5, 5]
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit={limit} must be at least 1"):
            first_of(5, limit)
