"""What a night leaves is for whom the umask says, and holds no secret of its environment; its servers are local."""

import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.blocks.webhook import Webhook
from prefect.settings import get_current_settings

from flows.alarm import BLOCK, COMMAND, URL
from flows.server import prefect_environment
from tests.phantoms import box, picture, truncate, write_nifti
from tests.tasks.ledger.nights import train_nothing

LABELS = box((12, 10, 8), (2, 2, 2), (8, 5, 6))
CANARY = "CANARY5150"
SECRETS = {
    COMMAND: f"/bin/false {CANARY}",
    "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://u:{CANARY}@127.0.0.1/x",
    "PREFECT_API_AUTH_STRING": f"u:{CANARY}",
    "PREFECT_SERVER_API_AUTH_STRING": f"u:{CANARY}",
}
NIGHTS = {0o027: {URL: f"http://127.0.0.1:9/{CANARY}"}, 0o077: {}}
"""By umask: where the first night has its webhook from; the second one's is in a block."""


@pytest.fixture(scope="module")
def nights(local_prefect, tmp_path_factory):
    """By output: what a night with a good and a bad scan printed, and its exit code."""
    home = tmp_path_factory.mktemp("account")
    train_nothing(home / "model")
    write_nifti(home / "in" / "a.nii.gz", picture(LABELS, 1))
    truncate(write_nifti(home / "in" / "bad.nii.gz", picture(LABELS, 2)), 0.5)
    (home / "settings.toml").write_text("ingest.settle_seconds = 0\npool.workers = 1\n")
    Webhook(url=f"http://127.0.0.1:9/{CANARY}").save(BLOCK, overwrite=True)
    begun = {}
    for umask, url in NIGHTS.items():
        output = home / f"out-{umask:o}"
        command = [
            "run",
            home / "in",
            "--model",
            home / "model",
            "--output",
            output,
            "--settings",
            home / "settings.toml",
        ]
        begun[output] = subprocess.Popen(
            [sys.executable, "-m", "flows.command_line", *map(str, command)], umask=umask, text=True,
            env=prefect_environment() | SECRETS | url, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    told = {output: (process.communicate()[0], process.returncode) for output, process in begun.items()}
    yield told
    Webhook.delete(BLOCK)


def test_the_nights_did_what_they_should_and_tried_to_tell_whom_they_should(nights):
    for output, (printed, code) in nights.items():
        assert code == 1
        assert (output / "segmentations" / "a.nii.gz").exists()
        for way in ("webhook", "command"):
            assert f"alarm: the {way} could not be told" in printed


@pytest.mark.parametrize("umask", NIGHTS, ids=oct)
def test_every_file_and_folder_of_an_output_has_the_rights_that_the_umask_leaves(nights, umask):
    (output,) = (output for output in nights if output.name == f"out-{umask:o}")
    rights = {path: stat.S_IMODE(path.stat().st_mode) for path in [output, *output.rglob("*")]}
    most = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in rights}
    assert {path: f"{mode:o}" for path, mode in rights.items() if mode != most[path]} == {}


def test_no_secret_is_in_an_output_in_what_was_printed_or_with_prefect(nights):
    home = get_current_settings().home
    assert holding("bad.nii.gz", home)  # of the case something is told there: so a secret would be found
    assert [file for folder in (home, *nights) for file in holding(CANARY, folder)] == []
    assert [printed for printed, _ in nights.values() if CANARY in printed] == []


def holding(text: str, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_server_and_worker_listen_on_the_loopback_address_alone(local_prefect):
    listening = {
        connection.laddr.ip
        for service in local_prefect.processes
        for process in [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
