"""What is printed cannot command the terminal."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clipself.cli.main import main
from clipself.cli.terminal import TerminalHandler, log_to_terminal
from clipself.text.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("cat\x1b[2J", "cat\\x1b[2J", id="escape"),
        pytest.param("a\rb\x08\x7f\x9b", "a\\rb\\x08\\x7f\\x9b", id="cursor"),
        pytest.param("a\u202eb", "a\\u202eb", id="direction"),
        pytest.param("été\t猫\n", "été\t猫\n", id="letters-stay"),
    ],
)
def test_control_characters_are_spelled_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_errors_and_log_lines_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "kmeans", "gone\x1b[31m.png"]) == 2
    assert "gone\\x1b[31m.png" in capsys.readouterr().err
    log_to_terminal()
    for _ in range(2):  # whoever redirects the stream gets the lines
        with contextlib.redirect_stderr(io.StringIO()) as stream:
            logging.getLogger("clipself.any").warning("name \x1b]0;x\x07")
        assert stream.getvalue() == "name \\x1b]0;x\\x07\n"


def test_lines_of_the_hub_are_printed_once() -> None:
    import huggingface_hub.utils.logging  # noqa: F401  # whose handler is added by the import

    log_to_terminal()
    logger: logging.Logger | None = logging.getLogger("huggingface_hub.file_download")
    handlers: list[logging.Handler] = []
    while logger is not None:
        handlers += logger.handlers
        logger = logger.parent if logger.propagate else None
    assert handlers, "the client prints them itself"
    assert not any(isinstance(handler, TerminalHandler) for handler in handlers)


FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        pytest.param(["--version"], "", id="held-back"),
        pytest.param(["--version"], "1", id="written-at-once"),
        pytest.param(["scenes", "--help"], "", id="more-than-is-held-back"),
    ],
)
def test_output_that_cannot_be_written_is_a_sentence_or_nothing(words: Sequence[str], unbuffered: str) -> None:
    command, env = [sys.executable, "-m", "clipself", *words], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (1, "")
    if FULL.exists():
        with FULL.open("w") as stream:
            full = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, env=env, check=False)
        said = "clipself: error: what is printed cannot be written (No space left on device)\n"
        assert (full.returncode, full.stderr) == (1, said)


def test_a_fault_is_told_where_only_the_output_is_lost() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "clipself", "nonsense"]
    told = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    unheard = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, check=False)
    os.close(writer)
    assert told.returncode == 2
    assert "unknown command 'nonsense'" in told.stderr
    assert (unheard.returncode, unheard.stdout) == (1, "")
