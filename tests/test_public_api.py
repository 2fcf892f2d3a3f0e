"""The face: what it exports, and what importing it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flightlog

HEAVY = (
    "sqlalchemy",
    "alembic",
    "numpy",
    "pandas",
    "redis",
    "rq",
    "boto3",
    "zstandard",
    "rich",
    "typer",
    "dulwich",
    "PIL",
    "yaml",
    "pyarrow",
)


def test_everything_in_all_is_there_and_all_is_sorted() -> None:
    assert flightlog.__all__ == sorted(flightlog.__all__)
    for name in flightlog.__all__:
        assert getattr(flightlog, name) is not None


def test_all_that_is_public_is_in_all() -> None:
    packages = {
        "client",
        "columnar",
        "dataframes",
        "histories",
        "producer",
        "pytest_plugin",
        "reading",
        "schema",
        "stores",
        "worker",
        "cli",
    }
    packages |= {"diagnosis", "experiments", "images", "inputs", "tables", "utils"}
    helpers = {"TYPE_CHECKING", "Any", "annotations", "import_module"}
    public = {name for name in vars(flightlog) if not name.startswith("_")} - packages - helpers
    assert public <= set(flightlog.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_verb"):
        flightlog.no_such_verb  # noqa: B018 - looking is the test


def test_importing_and_logging_load_nothing_heavy() -> None:
    code = (
        "import flightlog, sys\n"
        "flightlog.set_experiment('e')\n"
        "with flightlog.start_run():\n"
        "    flightlog.log_metric('m', 1.0, step=1); flightlog.log_param('p', 1)\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
