"""What a real bash offers after the script of `clipself completion bash`."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.test_docs import GENERAL, flags_of

from clipself.cli.commands import COMMANDS, find
from clipself.cli.completion import SHELLS, completion
from clipself.cli.completion import flags_of as offered_flags
from clipself.cli.main import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    path = tmp_path_factory.mktemp("bash") / "clipself.bash"
    path.write_text(completion(shell="bash"))
    return path


def offered(script: Path, *words: str) -> set[str]:
    """What bash completes the last word to."""
    asked = f"""source {script}
COMP_WORDS=(clipself "$@"); COMP_CWORD=$#; _clipself; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-uc", asked, "bash", *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def test_commands_and_sub_commands(script: Path) -> None:
    assert offered(script, "") == {*(name.split()[0] for name in COMMANDS), "help"}
    assert offered(script, "seg") == {"segment"}
    assert offered(script, "detect", "") == {name.split()[1] for name in COMMANDS if name.startswith("detect ")}
    assert offered(script, "detect", "tr") == {"train"}


def test_flags_choices_and_recipes(script: Path) -> None:
    assert offered(script, "distill", "--tra") == {"--track", "--trainable-blocks"}
    assert offered(script, "detect", "train", "--detector.m") >= {"--detector.method"}
    assert offered(script, "distill", "--data", "photos", "--track", "") == {"csv", "mlflow", "tensorboard", "wandb"}
    assert offered(script, "distill", "--track", "csv", "ten") == {"tensorboard"}
    assert "published-openai-b16" in offered(script, "distill", "--recipe", "pub")
    assert offered(script, "completion", "f") == set()  # a choice without a flag is left to the user
    assert offered(script, "label", "pho") == set()  # then bash offers files


def test_no_flag_is_made_up_or_missing() -> None:
    for name, row in COMMANDS.items():
        known, found = set(flags_of(find(row.settings))), set(offered_flags(name))
        assert found <= known | GENERAL, name
        nested = {flag.split(".")[0] for flag in known if "." in flag}
        assert {flag for flag in known - nested if not re.search(r"(^|\.)no-|\.", flag)} <= found, name


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_command_prints_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert all(name.split()[-1] in said for name in COMMANDS)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=said, text=True, check=True)
    with pytest.raises(SystemExit):
        main(["completion", "csh"])
