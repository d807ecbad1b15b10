"""The key and the certificates by which this installation's pictures are known.

Made at the first start and kept in one file that only its owner may read. The certificates hold no
name and no address. C2PA asks for a leaf that may not sign others and has an extended key usage
(Technical Specification 2.2, section 14.5.1); the root's own key is thrown away once it has signed
the leaf, so that nothing else can ever be signed for this installation.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webui.errors import StartError, StorageError
from webui.library.files import PRIVATE, write_first

FILE = "signing/identity.pem"
"""Within the state folder: key, leaf, root, one after the other."""

_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(2120, 1, 1, tzinfo=UTC)
"""Fixed and far: a clock that was wrong at the first start must not make pictures void."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trust:
    """Whose signatures count: the root certificate of one installation, PEM."""

    root: str


@dataclass(frozen=True)
class Identity:
    """What an installation signs with, PEM each.

    Attributes:
        key: The leaf's private key, PKCS 8.
        leaf: Certificate of the key.
        root: Certificate that signed the leaf.
    """

    key: str = field(repr=False)
    leaf: str
    root: str

    @property
    def trust(self) -> Trust:
        """What knows this installation's pictures again."""
        return Trust(self.root)


def identity_in(state: Path) -> Identity:
    """The installation's identity, made when there is none.

    Raises:
        StartError: The file is damaged or cannot be read.
        StorageError: A new one cannot be written.
    """
    path = state / FILE
    found = _load(path)
    if found is None:
        _write_first(path, new_identity())
        found = _load(path)
    if found is None:
        raise StorageError(f"{path} could not be kept: check the folder.")
    _keep_private(path)
    return found


def trust_in(state: Path) -> Trust | None:
    """Whom the installation knows; `None` before it has signed anything.

    Raises:
        StartError: The file is damaged or cannot be read.
    """
    found = _load(state / FILE)
    return None if found is None else found.trust


def new_identity() -> Identity:
    """A key and certificates of its own for it (ECDSA, P-256)."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Easel installation", root_key, issuer=None, signing_key=root_key)
    leaf = _certificate("Easel pictures", key, issuer=root, signing_key=root_key)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Identity(private.decode(), _pem(leaf), _pem(root))


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    signing_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    is_root = issuer is None
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Easel"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(is_root, 0 if is_root else None), critical=True)
        .add_extension(_usage(signs_certificates=is_root), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
        builder = builder.add_extension(usage, critical=False)
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _load(path: Path) -> Identity | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        key = load_pem_private_key(data, password=None)
        leaf, root = x509.load_pem_x509_certificates(data)
        if key.public_key() != leaf.public_key():
            raise ValueError("not the certificate of this key")
        leaf.verify_directly_issued_by(root)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except Exception as error:
        # The parsers raise types of their own, and which depends on the damage.
        raise StartError(
            f"The signing key in {path} is damaged: restore it, or move it away for a new one,"
            " by which pictures made before are not known any more."
        ) from error
    return Identity(private.decode(), _pem(leaf), _pem(root))


def _write_first(path: Path, identity: Identity) -> None:
    """Writes the file whole; one that another process has written in the meantime stays."""
    try:
        write_first(path, (identity.key + identity.leaf + identity.root).encode(), mode=PRIVATE)
    except OSError as error:
        sentence = f"The signing key cannot be written to {path}: {error.strerror}."
        raise StorageError(sentence) from None


def _keep_private(path: Path) -> None:
    """Takes the others' rights to the key away, where the file system has such."""
    if os.name != "posix" or not path.stat().st_mode & 0o077:
        return
    _log.warning("The signing key %s could be read by others; their rights are taken away.", path)
    with contextlib.suppress(OSError):
        path.chmod(PRIVATE)
