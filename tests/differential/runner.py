"""Runs the script with one module and writes what each call gave: `python -m differential.runner mlflow results.json`.

Both modules log to a store in the working directory, flightlog waiting for each commit, so that a call raises what the store says.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from differential import script
from differential.calls import Call, calls
from differential.neutral import Labels, neutral


class Stage:
    """Executes the calls of a chapter one by one, in a namespace of their own."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.chapter = ""
        self.names: dict[str, Any] = {}
        self.labels = Labels()

    def play(self, call: Call) -> Any:
        if call.chapter != self.chapter:
            self._begin(call.chapter)
        try:
            value = self._execute(call.statement)
        except Exception as error:  # noqa: BLE001 - whatever is raised is the answer
            return self._error(error)
        return neutral(value, self.labels)

    def _begin(self, chapter: str) -> None:
        while self.module.active_run():
            self.module.end_run()
        self.chapter = chapter
        self.labels = Labels()
        folder = Path.cwd() / "files" / chapter
        folder.mkdir(parents=True)
        self.names = {**vars(script), "m": self.module, "client": self.module.MlflowClient(), "folder": folder}

    def _execute(self, statement: ast.stmt) -> Any:
        if isinstance(statement, ast.Expr):
            return eval(compile(ast.Expression(statement.value), "script", "eval"), self.names)
        exec(compile(ast.Module([statement], []), "script", "exec"), self.names)
        bound = _bound(statement)
        for name in bound:
            self.labels.learn(name, self.names[name])
        return self.names[bound[0]] if bound else None

    def _error(self, error: Exception) -> dict[str, str]:
        if isinstance(error, self.module.exceptions.MlflowException):
            return {"raises": "MlflowException", "code": str(error.error_code)}
        return {"raises": type(error).__name__}


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement binds, if it is an assignment or a block."""
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.With):
        return [item.optional_vars.id for item in statement.items if isinstance(item.optional_vars, ast.Name)]
    return []


def _trust_the_system(connection: Any, _: Any) -> None:
    """Spare MLflow's store the wait for the disk at each call: nobody pulls the plug on a test."""
    connection.execute("PRAGMA synchronous = OFF")


def main(name: str, results: str) -> None:
    warnings.simplefilter("ignore")
    module = importlib.import_module(name)
    if name == "flightlog":
        importlib.import_module("flightlog.config").enable_async_logging(False)
    else:
        event.listen(Engine, "connect", _trust_the_system)
        module.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    stage = Stage(module)
    answers = {call.name: stage.play(call) for call in calls()}
    Path(results).write_text(json.dumps(answers, indent=1, sort_keys=True), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
