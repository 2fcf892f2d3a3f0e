"""`flightlog dead-letters` on a real folder."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

import flightlog as mlflow
from contracts.facts import RUN, WRITER, block, metric, param, started
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.stores import open_store
from flightlog.stores.base import Gap

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def letters(fresh_flightlog: None) -> None:
    """File a run with an event that was refused and one that conflicts."""
    lost = block(RUN, metric("loss", 2.0, 1), first=3)
    store = open_store(places.find().database_url)
    store.apply([block(RUN, started(), param("lr", "1"), param("lr", "2"))])
    store.apply([Gap(RUN, WRITER, 3, 4, "refused", "the store refused it", lost.records.payload(0), 1)])
    store.apply([block(RUN, metric("loss", 1.0), first=4)])
    store.close()


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main(["dead-letters", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_letters_are_listed_and_shown_by_name(capsys: Captured) -> None:
    listed = ask(capsys, "list")["dead_letters"]
    assert [(item["letter"], item["reason"]) for item in listed] == [(f"{'1' * 12}-2", "param-conflict"), (f"{'1' * 12}-3", "refused")]
    assert ask(capsys, "list", "--reason", "refused", "--run", RUN)["dead_letters"] == listed[1:]
    shown = ask(capsys, "show", listed[0]["letter"])
    assert shown["event"] == "[2, 1, 1000, {'key': 'lr', 'value': '2'}]"
    assert main(["dead-letters", "list"]) == 0
    assert "111111111111-3" in capsys.readouterr().out
    assert main(["dead-letters", "show", "11-2"]) == 0
    assert "param-conflict" in capsys.readouterr().out


def test_a_retry_files_what_can_be_filed_and_names_what_is_left(capsys: Captured) -> None:
    done = ask(capsys, "retry", code=exits.PROBLEMS)
    assert (done["retried"], [item["reason"] for item in done["left"]], done["refused"]) == (2, ["param-conflict"], {})
    assert mlflow.get_run(RUN).data.metrics == {"loss": 2.0}
    assert ask(capsys, "list", "--reason", "refused")["dead_letters"] == []
    assert main(["dead-letters", "retry", "--reason", "refused"]) == 0
    assert "0 events filed" in capsys.readouterr().out


def test_letters_are_deleted_after_asking(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(capsys, "drop", "1-2", "--yes")["dropped"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody answers
    assert main(["dead-letters", "drop"]) == exits.UNEXPECTED
    assert len(ask(capsys, "list")["dead_letters"]) == 1


@pytest.mark.parametrize(("name", "code"), [("nonsense", exits.USAGE), ("11-7", exits.NOT_FOUND), ("-3", exits.USAGE)])
def test_a_name_that_fits_none_is_refused(name: str, code: int, capsys: Captured) -> None:
    assert main(["dead-letters", "show", "--", name]) == code
    assert capsys.readouterr().out == ""
