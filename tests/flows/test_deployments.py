"""`deployments/prefect.yaml` says what the flows understand."""

from pathlib import Path

import pytest
import yaml

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
