"""The commands, run in this process as a user runs them in a shell."""

from typer.testing import CliRunner

from affect.cli import app

# A program that runs the command of its arguments and goes on, to see what the command has imported.
RUN_COMMAND = """\
import sys
from affect.cli import main
try:
    main()
except SystemExit as error:
    assert not error.code, error.code
"""


def affect(*arguments):
    """Runs a command; returns (exit code, stdout, lines of stderr that affect wrote)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, [line for line in result.stderr.splitlines() if line.startswith("affect: ")]


def refused(*arguments, code=2):
    """Runs a command that must fail; returns the one line it says."""
    exit_code, _, lines = affect(*arguments)
    assert exit_code == code, lines
    assert len(lines) == 1, lines
    return lines[0]
