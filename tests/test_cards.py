"""Settings that went through JSON come back equal, and what does not fit is said with file and field."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from clipself.cards import read_card, read_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    widths: tuple[int, int] = (2, 3)
    fusion: Mapping[int, int] = field(default_factory=lambda: {0: 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    rate: float
    name: str = "a"
    kind: Literal["one", "two"] = "one"
    taps: tuple[int, ...] | None = None
    root: Path | None = None
    exact: bool = False
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate={self.rate} is negative")


GIVEN = Outer(rate=1, taps=(1, 2, 5), kind="two", inner=Inner(widths=(4, 5), fusion={0: 0, 9: 3}))


def test_settings_come_back_from_json() -> None:
    held = json.loads(json.dumps(asdict(GIVEN)))
    assert read_settings(Outer, held, where="card.json") == GIVEN
    assert read_settings(Outer, {"rate": 2.5, "root": "a/b"}, where="c") == Outer(rate=2.5, root=Path("a/b"))
    assert read_settings(Outer, {**held, "taps": None}, where="c") == replace(GIVEN, taps=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": -1}, r"c\.json: rate=-1.0 is negative"),
        ({"rate": "fast"}, r"c\.json: rate is 'fast', expected a finite number"),
        ({"rate": float("nan")}, "rate is nan, expected a finite number"),
        ({"rate": True}, "rate is True, expected a finite number"),
        ({"rates": 1}, "unknown setting 'rates'; did you mean 'rate'"),
        ({"quux": 1}, "unknown setting 'quux'; the file was written by another version"),
        ({"kind": "three"}, r"kind is 'three', expected one of \['one', 'two'\]"),
        ({"kind": []}, r"kind is \[\], expected one of"),
        ({"taps": "12"}, "taps is '12', expected a list"),
        ({"taps": [1, 2.5]}, r"taps\[1\] is 2.5, expected a whole number"),
        ({"taps": [10**18]}, "expected a whole number below"),
        ({"name": None}, "name is None, expected a text"),
        ({"exact": 1}, "exact is 1, expected true or false"),
        ({"inner": 3}, "inner is 3, expected the table of Inner"),
        ({"inner": {"widths": [1]}}, "inner: widths has 1 values, expected 2"),
        ({"inner": {"fusion": {"x": 1}}}, "inner: fusion has the key 'x', expected a whole number"),
        ({"inner": {"fusion": [1]}}, r"inner: fusion is \[1\], expected a table"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_settings(Outer, {"rate": 1.0, **change}, where="c.json")
    with pytest.raises(ValueError, match=r"c\.json lacks 'rate'"):
        read_settings(Outer, {}, where="c.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b'{"a": 1', "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        ('{"a": "ä"}'.encode("latin-1"), "is not UTF-8 text"),
        (b"[1]", "holds a list, expected a table"),
        (b"null", "holds a NoneType, expected a table"),
    ],
)
def test_files_that_are_no_cards(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"card\.json {said}"):
        read_card(tmp_path / "card.json")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    for data in (b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'.encode("utf-16")):
        (tmp_path / "card.json").write_bytes(data)
        assert read_card(tmp_path / "card.json") == {"a": 1}
    with pytest.raises(FileNotFoundError, match="no card at"):
        read_card(tmp_path / "none.json")
