"""How a Dask scheduler is started or reached, by which certificates, and whether that is safe.

Whoever reaches a scheduler has it run any code, as the account of its workers; so does whoever sits on the way.
"""

from __future__ import annotations

from ipaddress import ip_address
from logging import getLogger
from typing import Any

from distributed import Client, LocalCluster, Security
from distributed.comm.addressing import parse_address, parse_host_port
from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from tasks.nursery import ENVIRONMENT
from tasks.pool_config import PoolConfig
from tasks.scan.errors import ServiceUnavailable, UnknownSetting

PLAIN = (
    "pool: %s is not encrypted, and asks nobody who they are: whoever reaches that port can run code as the account of "
    "its workers. Keep it to a network that you trust, or use TLS (docs/operations.md, 'Dask over TLS')"
)
certificates: dict[str, Security] = {}
"""By the address of a scheduler: what it is reached with."""


def reach(config: PoolConfig, seconds: float) -> str:
    """The address of the cluster that `config` names, which has a worker.

    Raises ServiceUnavailable when it does not answer within `seconds`, and UnknownSetting as `security_of` does.
    """
    address = str(config.address)
    certificates[address] = security_of(config)
    warn_of_plain(address)
    try:
        with client_of(address, seconds) as client:
            client.wait_for_workers(1, timeout=seconds)
    except (OSError, TimeoutError) as error:
        raise ServiceUnavailable(
            f"no Dask scheduler with a worker answers at {address}: {error}; start it, or leave --dask out"
        ) from error
    return address


def start_local(count: int, memory: int, security: Security) -> LocalCluster:
    """A cluster of `count` processes of this machine, each of which may have so many bytes of `memory`.

    Begun once more when one of them ends while it starts. Raises ServiceUnavailable when that happens again.
    """
    try:
        return _local(count, memory, security)
    except RuntimeError:  # which is all that Dask calls it
        _logger().warning("pool: a process ended while it started: all are started again")
    try:
        return _local(count, memory, security)
    except RuntimeError as error:
        raise ServiceUnavailable(
            "a process of the pool ended while it started, twice; see to the machine's memory, then start the run again"
        ) from error


def _local(count: int, memory: int, security: Security) -> LocalCluster:
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=memory,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # None means port 8787, of which a machine has one, on every interface
        env=ENVIRONMENT,
        security=security,
    )


def client_of(address: str, seconds: float) -> Client:
    """A client of the scheduler at `address`, which has so long to answer."""
    return Client(address, timeout=seconds, security=certificates.get(address))


def security_of(config: PoolConfig) -> Security:
    """The certificates by which the scheduler at `config.address` is reached: those that are set, else Dask's own.

    Raises UnknownSetting when they cannot be used, or none are there for an address that needs them.
    """
    files = {"tls_ca_file": config.tls_ca, "tls_client_cert": config.tls_certificate, "tls_client_key": config.tls_key}
    given = {name: str(file) for name, file in files.items() if file}
    security = Security(**given, require_encryption=True) if given else Security()
    if not str(config.address).startswith("tls://"):
        return security
    try:
        context = security.get_connection_args("client").get("ssl_context")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UnknownSetting(
            f"pool: the certificates cannot be used: {error}; pool.tls_ca, pool.tls_certificate and pool.tls_key are "
            "files in PEM that this account can read, the last two belonging to each other"
        ) from error
    if context is None:
        raise UnknownSetting(
            f"pool: {config.address} needs certificates; set pool.tls_ca, pool.tls_certificate and pool.tls_key"
        )
    return security


def warn_of_plain(address: str) -> None:
    """A line in the log when what goes to the scheduler at `address` leaves this machine as it is."""
    scheme, place = parse_address(address)
    if scheme != "tls" and not _is_loopback(str(parse_host_port(place)[0])):
        _logger().warning(PLAIN, address)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _logger() -> Any:
    """The logger of the run, if there is one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return getLogger("prefect.segment-cohort")
