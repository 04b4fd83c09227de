"""A Dask cluster over TLS: who has a certificate of its authority may work with it, and nobody else."""

import logging

import pytest
from distributed import Client, Security

from tasks import pool as pool_module
from tasks.cluster import warn_of_plain
from tasks.pool import PoolConfig, map_cases, open_pool
from tasks.scan.errors import ServiceUnavailable, UnknownSetting
from tasks.scan.records import Outcome
from tests.certificates import make_certificates
from tests.clusters import dask_cluster


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def cluster(files, tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("cluster"), files) as address:
        yield address


@pytest.fixture
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(pool_module, "CONNECT_SECONDS", 2)


def settings(address, files):
    return PoolConfig(address=address, tls_ca=files["ca"], tls_certificate=files["certificate"], tls_key=files["key"])


def double(number):
    return 2 * number


def test_a_cluster_over_tls_does_what_a_plain_one_does(cluster, files):
    assert cluster.startswith("tls://127.0.0.1:")
    with open_pool(settings(cluster, files)) as pool:
        done = map_cases(pool, "double", double, [Outcome(name=str(n), value=n) for n in range(5)])
    assert [one.value for one in done] == [0, 2, 4, 6, 8]


@pytest.mark.usefixtures("_in_a_hurry")
def test_a_client_without_encryption_is_refused_by_a_cluster_over_tls(cluster):
    with (
        pytest.raises(ServiceUnavailable, match="no Dask scheduler with a worker answers"),
        open_pool(PoolConfig(address=cluster.replace("tls://", "tcp://"))),
    ):
        pass


@pytest.mark.usefixtures("_in_a_hurry")
def test_a_client_with_a_certificate_of_another_authority_is_refused(cluster, files, tmp_path):
    other = make_certificates(tmp_path / "other")
    config = settings(cluster, {**other, "ca": files["ca"]})
    with pytest.raises(ServiceUnavailable, match=r"SSL\w*Error"), open_pool(config):
        pass


def test_another_account_of_this_machine_cannot_use_the_local_pool():
    with open_pool(PoolConfig(workers=1)) as pool:
        assert pool.startswith("tls://127.0.0.1:")
        with pytest.raises(OSError, match="closed"), Client(pool.replace("tls://", "tcp://"), timeout=2):
            pass
        with pytest.raises(OSError, match="does not match"), Client(pool, timeout=2, security=Security.temporary()):
            pass
        assert [one.value for one in map_cases(pool, "double", double, [Outcome(name="a", value=4)])] == [8]


def test_without_certificates_an_address_with_tls_is_refused_by_name():
    with (
        pytest.raises(UnknownSetting, match="needs certificates; set pool.tls_ca, pool.tls_certificate and pool.tls_k"),
        open_pool(PoolConfig(address="tls://127.0.0.1:9")),
    ):
        pass


@pytest.mark.parametrize("spoilt", ["ca", "certificate", "key"])
@pytest.mark.parametrize("how", ["gone", "rubbish", "foreign"])
def test_certificates_that_cannot_be_used_are_refused_by_name(files, tmp_path, spoilt, how):
    other = make_certificates(tmp_path / "other")
    (tmp_path / "rubbish").write_text("rubbish")
    spoil = {"gone": tmp_path / "nowhere", "rubbish": tmp_path / "rubbish", "foreign": other["key"]}
    with (
        pytest.raises(UnknownSetting, match="pool: the certificates cannot be used: "),
        open_pool(settings("tls://127.0.0.1:9", {**files, spoilt: spoil[how]})),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("tls://10.0.0.5:8786", ["tls_ca"]),
        ("tls://10.0.0.5:8786", ["tls_ca", "tls_key"]),
        ("tcp://10.0.0.5:8786", ["tls_ca", "tls_certificate", "tls_key"]),
        (None, ["tls_ca", "tls_certificate", "tls_key"]),
    ],
)
def test_certificates_go_together_and_with_an_address_that_uses_them(address, given, tmp_path):
    with pytest.raises(ValueError, match="go together, with an address that begins with tls://"):
        PoolConfig(address=address, **dict.fromkeys(given, tmp_path / "x.pem"))


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tcp://cluster.example:8786", "tcp://[2001:db8::1]:8786"])
def test_what_leaves_the_machine_without_encryption_is_said_in_the_log(address, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    warn_of_plain(address)
    assert f"pool: {address} is not encrypted, and asks nobody who they are" in caplog.text


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:1", "tls://10.0.0.5:1"])
def test_of_what_stays_on_the_machine_or_is_encrypted_nothing_is_said(address, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    warn_of_plain(address)
    assert caplog.text == ""
