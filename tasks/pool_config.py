"""Which processes do the CPU's share of the work: the settings of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from tasks.scan.records import FORBID_UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Which processes do the CPU's share of the work."""

    __pydantic_config__ = FORBID_UNKNOWN

    workers: int = 0
    """Processes of the local pool; 0: one for each core."""
    memory_mb: float = 0
    """Memory that each of them may use; 0: an even share of four fifths of the machine's."""
    address: str | None = None
    """Address of a Dask scheduler to use instead, for example tls://10.0.0.5:8786."""
    tls_ca: Path | None = None
    """File with the certificate (PEM) of the authority that vouches for all of a cluster whose address is tls://…"""
    tls_certificate: Path | None = None
    """File with the certificate by which that cluster knows this program."""
    tls_key: Path | None = None
    """File with the key of that certificate."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError("workers must be 0 (one for each core) or more")
        if self.memory_mb < 0:
            raise ValueError("memory_mb must be 0 (an even share) or more")
        if self.address is not None:
            _check_address(self.address)
        given = [file is not None for file in (self.tls_ca, self.tls_certificate, self.tls_key)]
        if any(given) and not (all(given) and str(self.address).startswith("tls://")):
            raise ValueError("tls_ca, tls_certificate and tls_key go together, with an address that begins with tls://")


def _check_address(address: str) -> None:
    """Raises ValueError when `address` cannot be one of a scheduler: Dask itself would try it for ever."""
    try:
        scheme, place = parse_address(address)
        get_backend(scheme)
        _, port = parse_host_port(place)
        if not 0 < port < 65536:
            raise ValueError(f"there is no port {port}")
    except ValueError as error:
        raise ValueError(f"'{address}' is no address like tcp://10.0.0.5:8786: {error}") from error
