"""The front doors: exit codes and one-line faults, through the real command."""

import errno
import re
import subprocess
import sys
import threading
from argparse import ArgumentTypeError, Namespace

import pytest

from clinicclip import cli, prepare, train
from clinicclip.__main__ import PROGRAMS
from clinicclip.errors import UserError


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def parser() -> cli.Parser:
    made = cli.Parser(program="example", description="d", example="e", overrides=True)
    made.add_argument("--output")
    return made


def test_the_package_lists_its_programs() -> None:
    done = command("clinicclip")
    assert done.returncode == 0
    assert all(f"clinicclip.{name}" in done.stdout for name in PROGRAMS)


@pytest.mark.parametrize(("program", "line"), [("train", "python -m clinicclip.train"), ("b/x.py", "python b/x.py")])
def test_a_fault_names_the_command_that_helps(program: str, line: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"(see {line} --help)")):
        cli.Parser(program=program, description="", example="").read(["--nope"])


def test_an_unknown_program_names_the_nearest() -> None:
    done = command("clinicclip", "trian")
    assert done.returncode == 2
    assert "did you mean train?" in done.stderr


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_program_has_help_with_an_example(name: str) -> None:
    done = command("clinicclip", name, "--help")
    assert done.returncode == 0
    assert f"python -m clinicclip.{name}" in done.stdout.split("example:")[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--outptu=x"], "unknown flag --outptu; did you mean --output?"),
        (["stray"], "unexpected argument 'stray'"),
        (["--config.seed"], "written --config.KEY=VALUE"),
        (["--output"], "expected one argument"),
        (["--output=gs://bucket/run"], "gs:// is read for the prepared data of train alone"),
        (["--config.data.dir=s3://bucket/data"], "s3:// is read for the prepared data of train alone"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    parser: cli.Parser, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(lambda args: 0, parser, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error


def test_a_misspelt_flag_is_told_before_what_is_missing(capsys) -> None:
    assert cli.call(lambda args: 0, train.parser(), ["--confg=configs/dt.py"]) == 2
    assert "unknown flag --confg; did you mean --config?" in capsys.readouterr().err


def test_an_unknown_choice_names_the_nearest(capsys) -> None:
    assert cli.call(lambda args: 0, prepare.parser(), ["openni", "--output=x"]) == 2
    assert "did you mean openi?" in capsys.readouterr().err


def test_overrides_are_collected_in_order(parser: cli.Parser) -> None:
    args = parser.read(["--config.a=1", "--output=x", "--config.b.c=2=3"])
    assert args.overrides == [("a", "1"), ("b.c", "2=3")]


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (UserError("a\nfault"), 1, "error: a fault\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "storage: No space left on device at /x/y"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_faults_end_in_one_line(
    parser: cli.Parser, fault: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(args: Namespace) -> int:
        raise fault

    assert cli.call(main, parser, []) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_defect_of_ours_keeps_its_traceback(parser: cli.Parser) -> None:
    def main(args: Namespace) -> int:
        raise OSError(errno.ENOENT, "not the user's")

    with pytest.raises(OSError, match="not the user's"):
        cli.call(main, parser, [])


@pytest.mark.parametrize("text", ["-1", "2", "three", "4.0", ""])
def test_a_count_below_its_least_or_no_number_is_told_as_such(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"whole number, 3 or more, not '{text}'"):
        cli.count(text, least=3)
    assert cli.count("3", least=3) == 3 and cli.count("0") == 0


def test_output_to_a_full_disk_is_one_line() -> None:
    code = "import sys; from clinicclip import cli; p = cli.Parser(program='p', description='', example='')"
    code += "; sys.exit(cli.call(lambda args: print('scores'), p, []))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: storage: No space left on device; free space") and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(("number", "one"), [(errno.ENOSPC, True), (errno.ECHILD, False)])
def test_a_full_disk_that_a_thread_meets_is_a_line(
    number: int, one: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        raise OSError(number, "", "events")

    def main(args: object) -> None:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back behind the test
    assert cli.call(main, cli.Parser(program="x", description="", example=""), []) == 0
    told = capsys.readouterr().err
    assert "events" in told and (told.count("\n") == 1) == ("Traceback" not in told) == one
