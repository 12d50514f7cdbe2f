"""`clipself env`: what it says is what is installed."""

import platform
from importlib.metadata import version

import pytest

import clipself
from clipself.cli.environment import NEEDED, OPTIONAL
from clipself.cli.main import main


def test_versions_devices_and_folders_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", "/somewhere/else")
    assert main(["env"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (told["clipself"], told["cache"]) == (clipself.__version__, "/somewhere/else")
    assert told["python"].startswith(platform.python_version())
    assert told["torch"] == version("torch")
    assert set(told) >= {*NEEDED, *OPTIONAL, "system", "devices"}
    assert told["devices"].endswith("cpu")


def test_what_is_not_installed_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipself.cli.environment.OPTIONAL", ("no-such-package",))
    main(["env"])
    assert "no-such-package  not installed" in capsys.readouterr().out.replace("   ", "  ").replace("   ", "  ")
