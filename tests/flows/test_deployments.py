"""`deployments/prefect.yaml` says what the flows understand."""

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names

from flows.automations import PAYLOAD
from flows.command_line import parser
from flows.segment_cohort import segment_cohort
from flows.train_unet import train_unet

ROOT = Path(__file__).parents[2]
FLOWS = {"flows/segment_cohort.py:segment_cohort": segment_cohort, "flows/train_unet.py:train_unet": train_unet}
DEPLOYMENTS = {d["name"]: d for d in yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_flow_accepts_the_parameters_of_its_deployment(name):
    deployment = DEPLOYMENTS[name]
    accepted = FLOWS[deployment["entrypoint"]].validate_parameters(deployment["parameters"])
    assert deployment["parameters"].keys() <= accepted.keys()


def test_the_nightly_deployment_has_a_time_a_time_zone_and_a_name_for_its_schedule():
    assert DEPLOYMENTS["nightly"]["schedules"] == [{"slug": "nightly", "cron": "0 1 * * *", "timezone": "UTC"}]


def test_two_nights_never_overlap():
    assert DEPLOYMENTS["nightly"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_the_training_runs_on_demand_only():
    assert "schedules" not in DEPLOYMENTS["train"]


FOLDER = ROOT / "deployments"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))


def environment_of(name):
    """The settings in a file of variables."""
    rows = [line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(row.split("=", 1) for row in rows)


@pytest.mark.parametrize("name", ["server.env", "worker.env"])
def test_every_setting_of_a_service_is_one_that_prefect_knows(name):
    """A name that Prefect does not know would be passed over in silence."""
    known = _get_valid_setting_names(Settings) | {"DO_NOT_TRACK", "PREFECT_EVENTS_RETENTION_PERIOD"}
    assert environment_of(name).keys() - known == set()


def test_the_server_listens_on_the_loopback_address_keeps_ninety_days_and_phones_nobody(monkeypatch):
    for name, value in environment_of("server.env").items():
        monkeypatch.setenv(name, value)
    server = Settings().server  # as a server understands them: it does not start with a value that is none
    assert (server.api.host, server.analytics_enabled) == ("127.0.0.1", False)
    assert server.services.db_vacuum.enabled == {"events", "flow_runs"}
    assert server.services.db_vacuum.retention_period == timedelta(days=90)
    assert server.events.retention_period == timedelta(days=7)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_one_that_systemd_understands(unit, tmp_path):
    """With the program in its place: here, any program that is there."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    text = unit.read_text().replace("/opt/segment-cohort/.venv/bin/python", "/bin/true")
    copies = [tmp_path / one.name for one in UNITS]
    for copy in copies:
        copy.write_text(
            (FOLDER / "systemd" / copy.name).read_text().replace("/opt/segment-cohort/.venv/bin/python", "/bin/true")
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    assert text.count("/bin/true") == 1
    assert [line for line in done.stderr.splitlines() if "segment-cohort" in line] == []


def test_a_unit_with_a_word_that_systemd_does_not_know_would_be_found(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    (tmp_path / "x.service").write_text("[Service]\nExecStart=/bin/true\nRestrat=always\n")
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "x.service"]
    assert "Restrat" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_of_the_containers_one_port_is_published_on_the_loopback_address():
    published = {name: service.get("ports") for name, service in COMPOSE["services"].items()}
    assert published == {"database": None, "server": ["127.0.0.1:4200:4200"], "worker": None, "deploy": None}


def test_containers_wait_for_those_they_need_and_find_their_files():
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= services.keys()
        assert [name for name in service.get("env_file", []) if not (FOLDER / name).is_file()] == []
    build = services["server"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_what_names_of_cases_depend_on_outlives_the_container_of_the_worker():
    assert "state:/var/lib/segment-cohort" in COMPOSE["services"]["worker"]["volumes"]
    assert set(COMPOSE["volumes"]) == {"database", "state"}


KUBERNETES = {
    (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
}
PODS = {name: one["spec"]["template"]["spec"] for (kind, name), one in KUBERNETES.items() if kind == "Deployment"}
CONTAINERS = [container for pod in PODS.values() for container in [*pod["containers"], *pod.get("initContainers", [])]]


def test_kubernetes_knows_every_word_of_its_file():
    validator = pytest.importorskip("kubernetes_validate", reason="not installed (pip install kubernetes-validate)")
    for one in KUBERNETES.values():
        validator.validate(one, validator.latest_version(), strict=True)


def test_pods_are_nobody_special_and_only_each_other_may_reach_them():
    for pod in PODS.values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
    assert not any(container["securityContext"]["allowPrivilegeEscalation"] for container in CONTAINERS)
    policy, own = KUBERNETES["NetworkPolicy", "segment-cohort"]["spec"], {"matchLabels": {"app": "segment-cohort"}}
    assert policy["podSelector"] == own
    assert policy["ingress"] == [{"from": [{"podSelector": own}]}]
    services = [one["spec"] for (kind, _), one in KUBERNETES.items() if kind == "Service"]
    assert all("type" not in service for service in services)  # each is for the cluster alone


def test_pods_mount_what_is_there_and_the_worker_keeps_its_state():
    for pod in PODS.values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes.values()
            if len(volume) > 1 and "persistentVolumeClaim" in volume
        ]
        assert all(("PersistentVolumeClaim", claim) in KUBERNETES for claim in claims)
    state = {volume["name"]: volume for volume in PODS["segment-cohort-worker"]["volumes"]}["state"]
    assert state["persistentVolumeClaim"]["claimName"] == "segment-cohort-state"


def test_what_pods_are_to_run_is_what_dask_and_this_program_understand_and_what_the_composition_runs():
    """The image's entry point is `python -m`."""
    commands = {container["name"] + container["args"][0]: container["args"] for container in CONTAINERS}
    assert parser().parse_args(commands["deployflows.command_line"][1:]).register_only
    assert commands["workerprefect"] == COMPOSE["services"]["worker"]["command"]
    assert " ".join(commands["serverprefect"]) in COMPOSE["services"]["server"]["command"][0]
    for name, command in {"schedulerdask": dask_scheduler.main, "workerdask": dask_worker.main}.items():
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert [word for word in commands[name] if word.startswith("--") and word not in known] == []


def test_no_file_of_the_deployments_holds_a_password():
    texts = [path.read_text() for path in FOLDER.rglob("*") if path.is_file()]
    assert [found for text in texts for found in re.findall(r"://[^/\s:$]+:([^@\s$]+)@", text)] == []


def test_the_image_has_what_it_copies_and_is_not_roots():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    user, entry = (next(n for n, line in enumerate(lines) if line.startswith(word)) for word in ("USER ", "ENTRYPOINT"))
    assert lines[user] == "USER segment"
    assert user < entry


def test_the_automation_watches_our_flows_and_waits_three_heartbeats():
    (zombies,) = yaml.safe_load((FOLDER / "automations.yaml").read_text())["automations"]
    told = AutomationCore.model_validate(zombies)
    assert zombies["trigger"]["match_related"]["prefect.resource.name"] == ["segment-cohort", "train-unet"]
    assert told.trigger.within.total_seconds() >= 3 * Settings().flows.heartbeat_frequency
    assert json.loads(re.sub(r"{{.*?}}", "x", PAYLOAD))["state"] == "Crashed"
