"""An authority of a test's own, and a certificate that it vouches for, as a site makes them with openssl."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(folder: Path) -> dict[str, Path]:
    """Files in PEM: `ca`, the authority's certificate; `certificate` and `key`, which it vouches for."""
    folder.mkdir(parents=True)
    files = {name: folder / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files["ca"].write_bytes(_certificate("authority", authority.public_key(), authority, is_authority=True))
    files["certificate"].write_bytes(_certificate("dask", own.public_key(), authority, is_authority=False))
    files["key"].write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _certificate(subject: str, public, signed_by, *, is_authority: bool) -> bytes:
    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named("authority"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(signed_by, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
