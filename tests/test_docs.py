"""The papers say what the code does: settings, targets, commands, links and the README's example."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.schema.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = sorted(set(re.findall(r"`flightlog ((?:[a-z-]+ ?)+)", README)))
SAMPLES = {
    "asynchronous": "false",
    "start_worker": "false",
    "spool_full": "raise",
    "follow_links": "true",
    "progress_bar": "true",
    "lost_after": "90",
    "log_format": "json",
    "log_level": "debug",
}


class Variables(dict[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: object = None) -> None:  # type: ignore[override]  # as an empty environment answers
        self.asked.add(name)


def documented() -> Iterator[tuple[str, str, str, str]]:
    """Yield setting, variable, MLflow's variable and default of each row."""
    for line in CONFIGURATION.splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and cells[1].startswith("FLIGHTLOG_"):
            yield cells[0], cells[1], cells[2], cells[3]


def changed_by(variable: str, setting: str) -> set[str]:
    """Return the settings that a variable changes."""
    sample = SAMPLES.get(setting, "3")
    before, after = dataclasses.asdict(Settings()), dataclasses.asdict(Settings.from_environ({variable: sample}))
    return {name for name in before if before[name] != after[name]}


def shown(default: object) -> str:
    if default is None:
        return "unset"
    return str(default).lower() if isinstance(default, bool) else f"{default:.0f}" if isinstance(default, float) else str(default)


def test_every_setting_is_documented_once_with_its_default() -> None:
    assert [(row[0], row[3]) for row in documented()] == [(field.name, shown(field.default)) for field in dataclasses.fields(Settings)]


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    variables = Variables()
    Settings.from_environ(variables)
    assert {name for row in documented() for name in row[1:3] if name} == variables.asked


@pytest.mark.parametrize(("setting", "variable", "mlflow"), [row[:3] for row in documented()], ids=[row[1] for row in documented()])
def test_a_variable_changes_the_setting_beside_it(setting: str, variable: str, mlflow: str) -> None:
    assert changed_by(variable, setting) == {setting}
    assert not mlflow or changed_by(mlflow, setting) == {setting}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))))
def test_every_make_target_that_the_readme_names_exists(target: str) -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert target in " ".join(phony).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_the_readme_names_exists(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", "flightlog", *command.split(), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    [example, *_] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(example.splitlines()) <= 20
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FINISHED" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_decisions_are_numbered_without_gaps_and_have_the_agreed_form() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        headings = re.findall(r"^## (.*)$", record.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Status", "Context", "Decision", "Consequences"], record.name
