"""`prefect deployment run segment-cohort`, by the real command; and that nothing else is touched."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows.plugin import position_of_name
from flows.services import prefect_environment

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def run(*words, **changes):
    """The ended command, with the environment changed: None takes a variable out."""
    environment = {name: value for name, value in {**prefect_environment(), **changes}.items() if value is not None}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_short_name_typed_on_the_real_command_line_runs_the_nightly_deployment(local_prefect):
    done = run(PREFECT, "deployment", "run", "segment-cohort", "--flow-run-name", "typed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "segment-cohort: 'segment-cohort' is the deployment 'segment-cohort/nightly'\n"
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("segment-cohort/nightly")
        (created,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["typed"])))
    assert created.deployment_id == nightly.id


def test_any_other_name_is_left_to_prefect():
    done = run(PREFECT, "deployment", "run", "train-unet", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode != 0
    assert "Invalid deployment name format: train-unet" in done.stdout + done.stderr


def test_in_the_repository_the_local_server_is_meant_where_none_is_configured(tmp_path):
    changes = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": None, "PREFECT_PLUGINS_ENABLED": None}
    done = run(sys.executable, "-m", "prefect", "config", "view", **changes)
    assert "PREFECT_API_URL='http://127.0.0.1:4200/api'" in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "prefect deployment run segment-cohort",
        "prefect deployment run segment-cohort --watch",
        "prefect deployment run --watch segment-cohort",
        "prefect deployment run --param cohort=x segment-cohort",
        "prefect deployment run --param=cohort=x segment-cohort",
        "prefect deployment run --name segment-cohort",
        "prefect --no-prompt --profile site deployments run segment-cohort",
    ],
)
def test_the_short_name_is_recognised(line):
    words = line.split()
    assert position_of_name(words) == words.index("segment-cohort")


@pytest.mark.parametrize(
    "line",
    [
        "prefect",
        "prefect deployment run",
        "prefect deployment run segment-cohort/nightly",
        "prefect deployment run segment-cohort-2",
        "prefect deployment run train-unet/train --tag segment-cohort",
        "prefect deployment run train-unet/train --flow-run-name segment-cohort",
        "prefect deployment inspect segment-cohort",
        "prefect flow inspect segment-cohort",
        "prefect work-pool inspect segment-cohort",
        "prefect shell serve deployment run segment-cohort",
    ],
)
def test_every_other_command_is_left_alone(line):
    assert position_of_name(line.split()) == 0
