"""Statements in a signed envelope (DSSE), by keys that lie on disk."""

import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from tasks.core.errors import UserError

TYPE = "application/vnd.in-toto+json"
MAKE = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"


class Forged(Exception):
    """A signature that does not verify, or is not there."""


def signed(payload: bytes, key: Path) -> dict[str, Any]:
    """The envelope of a payload.

    Args:
        payload: A Statement as JSON.
        key: Private key in a PEM file, without a password: Ed25519, ECDSA or RSA.

    Raises:
        UserError: There is no such key.
    """
    try:
        signer = CryptoSigner(load_pem_private_key(key.read_bytes(), None))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{key} is no private key in PEM without a password ({error}); make one: {MAKE}") from None
    envelope = Envelope(payload, TYPE, {})
    envelope.sign(signer)
    return envelope.to_dict()


def opened(attestation: dict[str, Any], key: Path | None) -> dict[str, Any]:
    """The Statement in an attestation: an envelope, or the bare Statement.

    Args:
        attestation: The file's JSON.
        key: Public key in a PEM file that must have signed it; None: no signature is looked at.

    Raises:
        UserError: There is no such key.
        Forged: It is not signed by `key`.
    """
    public = _public(key) if key else None
    if "payload" not in attestation:
        if key:
            raise Forged(f"it is not signed, {key.name} is asked for")
        return attestation
    envelope = Envelope.from_dict(attestation)
    if envelope.payload_type != TYPE:
        raise Forged(f"its payload is {envelope.payload_type}, not {TYPE}")
    if public and key:
        try:
            envelope.verify([public], 1)
        except VerificationError:
            raise Forged(f"its signature does not verify with {key.name}") from None
    return dict(json.loads(envelope.payload))


def _public(key: Path) -> SSlibKey:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{key} is no public key in PEM ({error}); make a pair: {MAKE}") from None
