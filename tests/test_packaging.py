"""What is published is what is in the checkout: sdist -> wheel -> a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "flightlogs", "results"
)
IMPORT_ALL = """
import importlib, sys
from pathlib import Path
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    assert Path(sys.prefix) in Path(module.__file__).parents, f"{name} comes from {module.__file__}"
"""


@dataclass(frozen=True)
class Published:
    """Paths of what was built and where it was installed."""

    sdist: Path
    wheel: Path
    python: Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Build and install a copy of the checkout in which an older build has left a module behind."""
    folder = tmp_path_factory.mktemp("published")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=NOT_SOURCES)
    stale = checkout / "build" / "lib" / "flightlog" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", checkout, cwd=folder)
    [sdist], [wheel] = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return Published(sdist, wheel, install(wheel, folder / "environment"))


def install(wheel: Path, environment: Path) -> Path:
    """Install a wheel into a new environment that borrows only the dependencies of this one, and return its Python."""
    venv.create(environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=environment)
    site_packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment).strip())
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


def run(*command: str | Path, cwd: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def files_of_the_checkout() -> set[str]:
    """Return all files under the face, through its links into the rooms, as paths in a wheel."""
    source = ROOT / "src"
    found = (Path(folder) / name for folder, _, names in os.walk(source / "flightlog", followlinks=True) for name in names)
    return {path.relative_to(source).as_posix() for path in found if "__pycache__" not in path.parts}


def modules_of_the_checkout() -> list[str]:
    """Return the dotted names of all modules, but for those that act when imported: `__main__`, and Alembic's scripts."""
    paths = [PurePosixPath(name) for name in files_of_the_checkout() if name.endswith(".py")]
    importable = [path for path in paths if path.stem != "__main__" and "migrations" not in path.parts[:-1]]
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in importable)


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(published: Published) -> None:
    with zipfile.ZipFile(published.wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files_of_the_checkout()


def test_every_module_imports_from_the_installed_wheel(published: Published) -> None:
    run(published.python, "-I", "-c", IMPORT_ALL, *modules_of_the_checkout(), cwd=published.wheel.parent)


def test_the_installed_command_runs(published: Published) -> None:
    assert "worker" in run(published.python.with_name("flightlog"), "--help", cwd=published.wheel.parent)


@pytest.mark.parametrize("path", ["README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"])
def test_the_sdist_holds_the_papers(published: Published, path: str) -> None:
    with tarfile.open(published.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert path in names


def test_the_wheel_says_that_it_is_typed(published: Published) -> None:
    with zipfile.ZipFile(published.wheel) as archive:
        assert "flightlog/py.typed" in archive.namelist()


@pytest.mark.parametrize("room", [path.name for path in (ROOT / "src" / "flightlog").iterdir() if path.is_symlink()])
def test_the_face_links_to_its_rooms_relatively(room: str) -> None:
    link = ROOT / "src" / "flightlog" / room
    assert link.readlink().as_posix() == f"../../{room}"
    assert (link / "__init__.py").is_file()
