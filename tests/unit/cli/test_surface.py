"""The command line as it is documented: every command and option is on its page and has help; errors become exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flightlog.__main__ import main
from flightlog.cli import exits
from flightlog.cli.app import app
from flightlog.cli.versions import VARIABLES, origins
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotCommitted, NotFound, StoreUnavailable
from samples import SAMPLES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `flightlog ([a-z -]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EVERYWHERE = PAGE.partition("\n## ")[0]


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of all commands that do something."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, found in inner.items():
        yield from commands(found, f"{name} {word}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))
PARAMETERS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]


def test_the_page_has_a_section_for_each_command_and_no_other() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize(("command", "parameter"), PARAMETERS, ids=[f"{name} {parameter.name}" for name, parameter in PARAMETERS])
def test_every_option_has_help_and_stands_on_the_page(command: str, parameter: Any) -> None:
    assert parameter.help
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar.strip("[].")]
    for name in names:
        assert re.search(rf"`(flightlog {command} )?{re.escape(name)}\b", SECTIONS[command] + EVERYWHERE), name


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_on_the_page_exists(section: str) -> None:
    existing = {option for parameter in COMMANDS[section].params for option in parameter.opts}
    assert set(re.findall(r"^\| `(--[a-z-]+)", SECTIONS[section], re.MULTILINE)) <= existing


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_the_exit_codes_mean(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert exits.SENTENCE in " ".join(capsys.readouterr().out.split())


def test_the_page_lists_every_exit_code() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == sorted(exits.MEANINGS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidParameter("a"), exits.USAGE),
        (NotFound("a"), exits.NOT_FOUND),
        (StoreUnavailable("a"), exits.UNREACHABLE),
        (PermissionError("a"), exits.UNREACHABLE),
        (NotCommitted("a"), exits.UNEXPECTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_its_exit_code(error: FlightlogException | OSError, code: int) -> None:
    assert exits.code_of(error) == code


@pytest.mark.parametrize("arguments", [["nonsense"], ["status", "--limit", "0"], ["status", "--nonsense"], ["runs", "show"]], ids=" ".join)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == exits.USAGE
    assert capsys.readouterr().out == ""


def test_the_version_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"flightlog \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_setting_says_from_which_variable_it_came(name: str) -> None:
    variable = f"FLIGHTLOG_{VARIABLES[name]}"
    before, after = ({item.name: item for item in origins(environ)} for environ in ({}, {variable: SAMPLES.get(name, "3")}))
    assert (before[name].source, after[name].source) == ("default", variable)
    assert [other for other in VARIABLES if before[other].value != after[other].value] == [name]


def test_an_argument_wins_over_the_variables_and_passwords_are_left_out() -> None:
    environ = {"MLFLOW_TRACKING_URI": "sqlite:///a.db"}
    assert origins(environ)[0].source == "MLFLOW_TRACKING_URI"
    [waiting] = [item for item in origins({"MLFLOW_ENABLE_ASYNC_LOGGING": "false"}) if item.name == "asynchronous"]
    assert (waiting.value, waiting.source) == (False, "MLFLOW_ENABLE_ASYNC_LOGGING")
    shown = origins(environ, "postgresql+psycopg://me:secret@host/db")[0]
    assert (shown.value, shown.source) == ("postgresql+psycopg://me:***@host/db", "--tracking-uri")
