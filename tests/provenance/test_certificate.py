from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from webui.errors import StartError, StorageError
from webui.provenance import certificate
from webui.provenance.certificate import FILE, Identity, identity_in, new_identity, trust_in


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_once_and_found_again(tmp_path: Path) -> None:
    assert trust_in(tmp_path) is None
    first = identity_in(tmp_path)
    assert identity_in(tmp_path) == first
    assert trust_in(tmp_path) == first.trust
    assert [path.name for path in (tmp_path / FILE).parent.iterdir()] == [Path(FILE).name]


def test_two_installations_differ(tmp_path: Path) -> None:
    assert identity_in(tmp_path / "a").root != identity_in(tmp_path / "b").root


def test_only_the_owner_may_read_the_key(tmp_path: Path) -> None:
    identity_in(tmp_path)
    assert mode(tmp_path / FILE) == 0o600
    os.chmod(tmp_path / FILE, 0o644)
    identity_in(tmp_path)
    assert mode(tmp_path / FILE) == 0o600


def test_the_key_does_not_show_when_it_is_printed(identity: Identity) -> None:
    assert "PRIVATE KEY" in identity.key
    assert "PRIVATE KEY" not in repr(identity)


def test_the_certificates_are_what_c2pa_asks_for_and_name_nobody(identity: Identity) -> None:
    leaf = x509.load_pem_x509_certificate(identity.leaf.encode())
    root = x509.load_pem_x509_certificate(identity.root.encode())
    leaf.verify_directly_issued_by(root)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert leaf.not_valid_before_utc < datetime(2021, 1, 1, tzinfo=UTC)
    assert leaf.not_valid_after_utc > datetime(2100, 1, 1, tzinfo=UTC)
    assert leaf.subject.rfc4514_string() == "CN=Easel pictures,O=Easel"


def test_the_key_of_the_root_is_kept_nowhere(tmp_path: Path) -> None:
    identity_in(tmp_path)
    assert (tmp_path / FILE).read_text().count("BEGIN PRIVATE KEY") == 1


@pytest.mark.parametrize("cut", [0, 60, 400, 1200])
def test_a_damaged_key_is_one_sentence_and_stays(tmp_path: Path, cut: int) -> None:
    identity_in(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:cut])
    for load in (identity_in, trust_in):
        with pytest.raises(StartError, match="is damaged"):
            load(tmp_path)
    assert (tmp_path / FILE).read_bytes() == whole[:cut]


def test_a_key_with_the_certificate_of_another_is_damaged(
    tmp_path: Path, identity: Identity, other: Identity
) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(identity.key + other.leaf + other.root)
    with pytest.raises(StartError, match="is damaged"):
        identity_in(tmp_path)


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir(parents=True)
    with pytest.raises(StartError, match="cannot be read"):
        identity_in(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "signing").write_text("a file")
    with pytest.raises((StorageError, StartError), match="identity"):
        identity_in(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificate.os, "fsync", full)
    with pytest.raises(StorageError, match="No space"):
        identity_in(tmp_path)
    assert list((tmp_path / FILE).parent.iterdir()) == []


def test_of_two_that_start_at_once_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_identity()
    path = tmp_path / FILE

    def late() -> Identity:
        path.parent.mkdir(parents=True)
        path.write_text(first.key + first.leaf + first.root)
        return new_identity()

    monkeypatch.setattr(certificate, "new_identity", late)
    assert identity_in(tmp_path).root == first.root
    assert mode(path) == 0o600


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(certificate.os, "link", no_links)
    assert trust_in(tmp_path) is None
    assert identity_in(tmp_path).trust == trust_in(tmp_path)


def test_a_file_that_vanishes_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        """As a disk that loses what it was given."""

    monkeypatch.setattr(certificate, "write_first", nothing)
    with pytest.raises(StorageError, match="could not be kept"):
        identity_in(tmp_path)


def test_a_file_system_without_rights_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = identity_in(tmp_path)
    os.chmod(tmp_path / FILE, 0o644)

    def no_rights(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", no_rights)
    assert identity_in(tmp_path) == made
