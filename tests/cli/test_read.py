"""Words to settings: recipes, files, old flags, positions; and the table of commands as a whole."""

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
from tyro.conf import Positional

from clipself import renamed
from clipself.cli.commands import COMMANDS, find
from clipself.cli.main import EXIT_CODES, main
from clipself.cli.read import read_words
from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class LookOptions(Settings):
    """A command as any other."""

    images: Annotated[tuple[Path, ...], Positional]
    """Pictures."""
    names: tuple[str, ...] = ()
    """Names."""
    base: str = ""
    """Another."""
    fast: bool = False
    """A flag."""

    def check(self) -> None:
        if self.base == "nonsense":
            raise ValueError("base='nonsense' means nothing")


def read(words: str) -> LookOptions:
    return read_words(LookOptions, words.split(), command="look", about="Looks.")


@pytest.mark.parametrize(
    "words",
    [
        "a.jpg b.jpg --names cat dog",
        "--base x --images a.jpg b.jpg --names cat dog",
        "--names cat dog --images a.jpg b.jpg",
        "a.jpg --names cat dog --images b.jpg",
        "--images=a.jpg b.jpg --names cat dog",
    ],
)
def test_pictures_need_no_flag_but_may_have_one(words: str) -> None:
    config = read(words)
    assert sorted(map(str, config.images)) == ["a.jpg", "b.jpg"]
    assert config.names == ("cat", "dog")


def test_old_flags_are_taken_with_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        "clipself.cli.read.FIELDS",
        {"LookOptions": {"inputs": "images", "seen": "base", "swift": "fast", "cats": "names=cat"}},
    )
    config = read("--inputs a.jpg --seen=x --swift")
    assert (config.images, config.base, config.fast) == ((Path("a.jpg"),), "x", True)
    said = capsys.readouterr().err
    assert "--inputs is now --images; the old flag goes in version" in said
    assert "--seen is now --base" in said
    assert read("a.jpg --no-swift").fast is False
    assert read("a.jpg --cats").names == ("cat",)
    assert "--cats is now --names cat" in capsys.readouterr().err
    assert read("a.jpg --no-cats --names dog").names == ("dog",)


def test_a_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"images": ["a.jpg"], "base": "x", "fast": True}))
    (tmp_path / "run.yaml").write_text("images: [a.jpg]\nbase: x\nfast: true\n")
    for name in ("run.json", "run.yaml"):
        config = read(f"--config {tmp_path / name} --base y")
        assert (config.images, config.base, config.fast) == ((Path("a.jpg"),), "y", True)
    (tmp_path / "part.json").write_text('{"base": "x"}')
    assert read(f"b.jpg --config {tmp_path / 'part.json'}").base == "x"
    (tmp_path / "other.json").write_text('{"bass": "x"}')
    with pytest.raises(ValueError, match=r"no setting bass; did you mean base\?"):
        read(f"a.jpg --config {tmp_path / 'other.json'}")


def test_what_does_not_fit_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="base='nonsense' means nothing"):
        read("a.jpg --base nonsense")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_settings_and_function(name: str) -> None:
    command = COMMANDS[name]
    kind = find(command.settings)
    assert callable(find(command.run))
    if command.show:
        assert callable(find(command.show))
    assert all(each.init for each in fields(kind))


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.recipes])
def test_a_command_and_its_function_have_the_same_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command would train with is what the bare call of its function would."""
    command = COMMANDS[name]
    kind = find(command.settings)
    needed = {
        each.name: Path("somewhere") / each.name
        for each in fields(kind)
        if each.default is MISSING and each.default_factory is MISSING
    }
    typed = [word for field, value in needed.items() for word in (f"--{field.replace('_', '-')}", str(value))]
    seen: list[Any] = []
    module = command.run.split(":")[0]
    if not callable(find(f"{module}:__dict__").get("train")):
        pytest.skip("this training does not stand on the engine's run yet")
    monkeypatch.setattr(f"clipself.{module}.train", lambda task, config, **callbacks: seen.append(config))
    find(command.run)(**needed)
    by_words = read_words(kind, typed, command=name, about="", recipes=find(command.recipes))
    assert seen[0] == by_words


def test_version_help_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-V"]) == 0
    assert main(["help"]) == 0
    assert "exit codes: 0 done" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["help", "scenes"])
    assert stop.value.code == 0
    assert "--size" in capsys.readouterr().out
    assert set(EXIT_CODES) == {0, 1, 2, 70, 75, 130}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("the file is odd"), 2, "clipself: error: the file is odd"),
        (KeyError("area"), 70, "this is a defect of clipself"),
        (MemoryError(), 2, "memory is full"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            2,
            "memory is full",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible ...\n"),
            2,
            "a process that reads pictures was ended from outside (DataLoader worker (pid 7) is killed by signal",
        ),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback"), 70, "Traceback"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 70, "Traceback"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), 2, "error: CUDA out of memory"),
        (KeyboardInterrupt("stopped after 3 steps"), 130, "stopped after 3 steps"),
    ],
)
def test_faults_of_users_are_sentences_and_our_own_say_so(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str, words: object) -> int:
        raise error

    monkeypatch.setattr("clipself.cli.main.run_command", fail)
    assert main(["scenes", "--out", "x"]) == code
    assert said in capsys.readouterr().err


def test_old_flags_of_real_commands_lead_to_fields() -> None:
    kinds = {find(command.settings).__name__ for command in COMMANDS.values()}
    assert set(renamed.FIELDS) <= kinds
