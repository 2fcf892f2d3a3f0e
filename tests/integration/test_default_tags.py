"""The tags that a run gets by itself, from real repositories, kernels' shells and the environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from dulwich import porcelain

import flightlog
from flightlog.exceptions import InvalidParameter
from flightlog.producer import default_tags
from flightlog.producer.context import context

SCRIPT = """
import sys, flightlog
print(flightlog.start_run(**eval(sys.argv[1])).data.tags)
"""


@pytest.fixture(autouse=True)
def fresh_tags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "false")  # what is asked is what the handle says
    monkeypatch.setenv("FLIGHTLOG_EXIT_TIMEOUT", "0")
    default_tags._found_tags.cache_clear()
    yield
    default_tags._found_tags.cache_clear()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "build").mkdir()
    for name in ("src", "build"):
        (folder / name / "train.py").write_text(SCRIPT)
    (folder / ".gitignore").write_text("build/\n")
    porcelain.init(folder)
    porcelain.add(folder, paths=[str(folder / "src" / "train.py"), str(folder / ".gitignore")])
    porcelain.commit(folder, message=b"one", author=b"a <a@b>", committer=b"a <a@b>")
    porcelain.remote_add(folder, "origin", "https://me:secret@git.example/team/project.git")
    return folder


def tags_of(script: Path, arguments: str = "{}") -> dict[str, str]:
    done = subprocess.run([sys.executable, str(script), arguments], capture_output=True, text=True, check=True, cwd="/")
    tags: dict[str, str] = eval(done.stdout)
    return tags


def test_a_script_in_a_repository_is_tagged_with_its_commit(repository: Path) -> None:
    tags = tags_of(repository / "src" / "train.py")
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["mlflow.source.git.branch"] in ("main", "master")
    assert tags["mlflow.source.git.repoURL"] == "https://git.example/team/project.git"
    assert tags["mlflow.source.name"] == str(repository / "src" / "train.py")
    assert tags["mlflow.source.type"] == "LOCAL"
    assert tags["mlflow.user"]


def test_a_detached_head_has_no_branch_and_an_ignored_folder_no_commit(repository: Path) -> None:
    commit = tags_of(repository / "src" / "train.py")["mlflow.source.git.commit"]
    (repository / ".git" / "HEAD").write_text(f"{commit}\n")
    detached = tags_of(repository / "src" / "train.py")
    assert (detached["mlflow.source.git.commit"], "mlflow.source.git.branch" in detached) == (commit, False)
    assert not any("git" in key for key in tags_of(repository / "build" / "train.py"))


def test_a_repository_that_cannot_be_read_costs_the_tags_and_nothing_else(repository: Path) -> None:
    (repository / ".git" / "HEAD").write_bytes(b"\xff\x00 nonsense")
    (repository / ".git" / "config").write_bytes(b"[[[")
    assert not any("git" in key for key in tags_of(repository / "src" / "train.py"))


def test_the_users_tags_win_over_the_environments_and_those_over_ours(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"team": "a", "mlflow.user": "ci", "mlflow.source.git.commit": "c0ffee", "n": 1}')
    tags = tags_of(repository / "src" / "train.py", "{'tags': {'mlflow.user': 'me', 'mlflow.source.name': 'job'}}")
    assert (tags["mlflow.user"], tags["mlflow.source.name"], tags["mlflow.source.git.commit"]) == ("me", "job", "c0ffee")
    assert (tags["team"], tags["n"]) == ("a", "1")


@pytest.mark.parametrize("text", ["no json", "[1]", '{"a//b": 1}'])
def test_a_run_context_that_is_no_object_of_tags_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", text)
    context.reset()
    with pytest.raises(InvalidParameter):
        flightlog.start_run()


@pytest.mark.parametrize(("variable", "value"), [("JPY_SESSION_NAME", "/home/me/fit.ipynb"), ("IPYNB_FILE", "fit.ipynb"), ("", "")])
def test_a_notebook_is_the_source_of_its_runs(variable: str, value: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(kernel=object(), user_ns={} if variable else {"__vsc_ipynb_file__": r"/vs/fit.ipynb"})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.chdir(repository)
    if variable:
        monkeypatch.setenv(variable, value)
    tags = flightlog.start_run().data.tags
    assert (tags["mlflow.source.type"], tags["mlflow.source.name"]) == ("NOTEBOOK", "fit.ipynb")
    assert len(tags["mlflow.source.git.commit"]) == 40


def test_a_terminal_of_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(user_ns={})))
    assert flightlog.start_run().data.tags["mlflow.source.type"] == "LOCAL"


def test_who_is_in_no_repository_does_not_import_what_reads_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys, flightlog\nflightlog.start_run()\nprint([name for name in sys.modules if name.startswith('dulwich')])\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
