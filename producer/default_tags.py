"""The tags that a run gets by itself: who started it, from which script or notebook, and from which commit. The user's own tags win.

They are found once for each main script of a process, because neither changes while it runs: a repository may be checked out anew, but the
code that was loaded is that of the first start.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from flightlog.producer.notebooks import shell
from flightlog.schema.entities import SourceType
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.limits import check_key
from flightlog.schema.names import GIT_BRANCH_TAG, GIT_COMMIT_TAG, GIT_URL_TAG, SOURCE_NAME_TAG, SOURCE_TYPE_TAG, USER_TAG

if TYPE_CHECKING:
    from dulwich.repo import Repo

log = logging.getLogger("flightlog")

NOTEBOOK_VARIABLES = ("__vsc_ipynb_file__", "IPYNB_FILE", "JPY_SESSION_NAME")
"""Where Visual Studio Code, some launchers and Jupyter say which notebook a kernel runs."""


def default_tags(run_context: str | None) -> dict[str, str]:
    """Return the tags of a new run. `run_context` is a JSON object of further tags, which win over these."""
    found = _found_tags(sys.argv[0] if sys.argv else "")
    return {**found, **_context_tags(run_context)} if run_context else found


@lru_cache(maxsize=8)
def _found_tags(script: str) -> dict[str, str]:
    tags = {USER_TAG: _user(), SOURCE_NAME_TAG: script or "<console>", SOURCE_TYPE_TAG: SourceType.to_string(SourceType.LOCAL)}
    notebook = _notebook_shell()
    if notebook is not None:
        return {**tags, **_git_tags(Path.cwd()), **_notebook_tags(notebook)}
    return {**tags, **_git_tags(Path(script).resolve().parent)} if os.path.isfile(script) else tags  # noqa: PTH113 - "-c" is no path


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in containers
        return "unknown"


def _notebook_shell() -> Any:  # noqa: ANN401 - IPython's, which need not be installed
    """Return the shell of a notebook's kernel, None for scripts and terminals."""
    found = shell()
    return found if found is not None and getattr(found, "kernel", None) is not None else None


def _notebook_tags(notebook: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    names = [getattr(notebook, "user_ns", {}).get(NOTEBOOK_VARIABLES[0]), *(os.environ.get(name) for name in NOTEBOOK_VARIABLES)]
    name = next((Path(str(name)).name for name in names if name), None)
    tags = {SOURCE_TYPE_TAG: SourceType.to_string(SourceType.NOTEBOOK)}
    return {**tags, SOURCE_NAME_TAG: name} if name else tags


def _context_tags(run_context: str) -> dict[str, str]:
    try:
        tags = json.loads(run_context)
    except ValueError as error:
        raise InvalidParameter(f"FLIGHTLOG_RUN_CONTEXT must be a JSON object of tags, not {run_context[:100]!r}: {error}") from error
    if not isinstance(tags, dict):
        raise InvalidParameter(f"FLIGHTLOG_RUN_CONTEXT must be a JSON object of tags, not {run_context[:100]!r}")
    return {check_key("tag", key): str(value) for key, value in tags.items()}


def _git_tags(folder: Path) -> dict[str, str]:
    """Return what the repository says in which a folder lies; nothing without one. Whatever is wrong with it, training goes on."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return {}
    try:
        from dulwich.repo import Repo  # noqa: PLC0415 - who is in no repository pays nothing for it

        with closing(Repo.discover(str(folder))) as repo:
            return {} if _is_ignored(repo, folder) else _repository_tags(repo)
    except Exception as error:  # noqa: BLE001 - as said
        log.debug("flightlog: no git tags, because the repository of %s cannot be read: %s: %s", folder, type(error).__name__, error)
        return {}


def _is_ignored(repo: Repo, folder: Path) -> bool:
    """Say whether the repository takes no notice of a folder, as of one for builds: its commit says nothing about it."""
    from dulwich.ignore import IgnoreFilterManager  # noqa: PLC0415 - as above

    inside = folder.relative_to(Path(repo.path).resolve()).as_posix()
    return inside != "." and bool(IgnoreFilterManager.from_repo(repo).is_ignored(f"{inside}/"))


def _repository_tags(repo: Repo) -> dict[str, str]:
    from dulwich.refs import HEADREF  # noqa: PLC0415 - as above

    tags = {GIT_COMMIT_TAG: repo.head().decode()}
    head = bytes(repo.refs.read_ref(HEADREF) or b"")
    if head.startswith(b"ref: refs/heads/"):
        tags[GIT_BRANCH_TAG] = head.removeprefix(b"ref: refs/heads/").decode(errors="replace").strip()
    config = repo.get_config()
    remotes = [section for section in config.sections() if section[0] == b"remote"]
    if remotes:
        tags[GIT_URL_TAG] = _without_user(config.get(remotes[0], b"url").decode(errors="replace"))
    return tags


def _without_user(url: str) -> str:
    """Return a URL without user and password; one of ssh such as git@host:path is none and stays."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.scheme else url
