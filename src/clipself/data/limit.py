"""How many of what is listed are looked at."""


def first_of(listed: int, limit: int | None) -> int:
    """The first `limit` of what is listed, or all where there are fewer or no limit.

    Raises:
        ValueError: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1; leave it out to take all")
    return listed if limit is None else min(limit, listed)
