"""What every tier shares: a throw-away certificate authority and one Azurite for each test process.

Tests share the Azurite and not its data: each takes an account of its own (`azurite.fresh_account()`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from simulator.storage.azurite import Azurite
from simulator.tls import Tls

# aiohttp reads SSL_CERT_FILE while it is imported, so the authority has to exist before any test module is.
_TLS = Tls.create()
_TLS.trust_in_this_process()


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Certificates that every client of this process trusts."""
    assert os.environ["SSL_CERT_FILE"] == str(_TLS.ca_path)
    return _TLS


@pytest.fixture(scope="session")
def azurite(tls: Tls) -> Iterator[Azurite]:
    """A running Azurite; with pytest-xdist one for each worker (about 150 MB)."""
    server = Azurite(tls)
    server.start()
    yield server
    server.stop()
