"""TLS material: what the listener shows, and whom the sender trusts."""

from __future__ import annotations

import ssl

from mesh.errors import SettingsError


def client_context(ca_certs: str = "") -> ssl.SSLContext:
    """Trust the system's authorities and those in `ca_certs` (PEM). Knative adds a Destination's CACerts to the system's too.

    Raises:
        ValueError: `ca_certs` holds no certificate.
    """
    context = ssl.create_default_context()
    if ca_certs.strip():
        try:
            context.load_verify_locations(cadata=ca_certs)
        except ssl.SSLError as exc:
            raise ValueError("CACerts: expected certificates in PEM form") from exc
    return context


def server_context(cert_path: str, key_path: str) -> ssl.SSLContext:
    """Show this certificate (PEM, with its chain).

    Raises:
        SettingsError: a file is missing, or they do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert_path, key_path)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(f"cannot use the certificate {cert_path} with the key {key_path}: {exc}") from exc
    return context
