"""docker-compose.yml, Dockerfile and .env.example hold together, and with our command line."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from deployment import FILE, ROOT, example_values, filled, variables
from flightlog.__main__ import main
from flightlog.cli.versions import VARIABLES

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SECRETS = {name: "Secret1" for name, must in variables().items() if must}
COMPOSE = filled(SECRETS)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "flightlog"}
COMMANDS = {name: service["command"] for name, service in OURS.items() if "entrypoint" not in service}


def test_the_file_keeps_the_rules() -> None:
    jsonschema.Draft202012Validator(FILE).validate(COMPOSE)


@pytest.mark.parametrize(
    ("service", "changes"),
    [
        ("redis", {"ports": ["6379:6379"]}),
        ("redis", {"container_name": "redis"}),
        ("redis", {"image": "redis"}),
        ("worker", {"comand": []}),
        ("worker", {"environment": {"FLIGHTLOG_METRICS_PORT": 9100}}),
    ],
    ids=["open port", "name that cannot be scaled", "image without a version", "misspelt key", "number in the environment"],
)
def test_the_rules_refuse_what_they_are_for(service: str, changes: dict[str, Any]) -> None:
    broken = {**COMPOSE, "services": {**SERVICES, service: {**SERVICES[service], **changes}}}
    assert not jsonschema.Draft202012Validator(FILE).is_valid(broken)


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_starts_without_a_secret_of_ones_own(secret: str) -> None:
    with pytest.raises(KeyError, match=secret):
        filled({name: value for name, value in SECRETS.items() if name != secret})


def test_the_example_of_an_environment_names_every_variable_and_gives_away_no_secret() -> None:
    values = example_values()
    assert set(values) == set(variables())
    assert {name: value for name, value in values.items() if variables()[name]} == dict.fromkeys(SECRETS, "")


def test_optional_variables_have_the_same_default_in_both_places() -> None:
    assert filled({**example_values(), **SECRETS}) == COMPOSE


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_depends_on_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
        assert how["condition"] != "service_completed_successfully" or "restart" not in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_every_named_volume_is_declared(name: str) -> None:
    named = {volume.partition(":")[0] for volume in SERVICES[name].get("volumes", []) if not volume.startswith("./")}
    assert named <= set(COMPOSE["volumes"])


def test_the_queue_refuses_what_it_has_no_room_for() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


@pytest.mark.parametrize("name", OURS)
def test_every_setting_that_a_service_has_is_one_of_ours(name: str) -> None:
    ours = {variable for variable in OURS[name]["environment"] if variable.startswith("FLIGHTLOG_")}
    assert ours <= {f"FLIGHTLOG_{variable}" for variable in VARIABLES.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMANDS[name], "--help"]) == 0
    printed = capsys.readouterr().out
    assert [word for word in COMMANDS[name] if word.startswith("--") and word not in printed] == []


@pytest.mark.parametrize("name", [name for name, service in OURS.items() if "healthcheck" in service])
def test_metrics_are_served_where_the_health_check_and_prometheus_look(name: str) -> None:
    command, port = COMMANDS[name], OURS[name]["expose"][0]
    assert command[command.index("--metrics-port") + 1] == port
    assert f":{port}/metrics" in OURS[name]["healthcheck"]["test"][-1]


def test_the_example_that_the_trainer_runs_exists() -> None:
    assert (ROOT / "examples" / SERVICES["trainer"]["entrypoint"][-1].rpartition("/")[2]).exists()


def test_the_image_is_pinned_and_runs_a_command_of_ours_as_nobody_in_particular() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    assert len(set(bases)) == 1
    user = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]
    assert int(user.partition(":")[0]) > 0
    [entrypoint], [command] = (re.findall(rf'^{word} \["(\w+)"\]', DOCKERFILE, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    assert (entrypoint, main([command, "--help"])) == ("flightlog", 0)


def test_the_image_is_built_from_all_that_the_wheel_needs() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    rooms = {path.name for path in (ROOT / "src" / "flightlog").iterdir() if path.is_symlink()}
    assert rooms | {"src", "pyproject.toml", "README.md", "LICENSE"} == kept


def test_the_extras_of_the_image_exist() -> None:
    extras = re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE)[0].split(",")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in extras)
