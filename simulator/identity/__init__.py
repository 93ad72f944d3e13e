"""Entra ID and managed identity: tokens.py, server.py (an app's identity endpoint), credentials.py (for clients)."""

from simulator.identity.credentials import ClockCredential, StaticCredential
from simulator.identity.server import API_VERSION, Answer, ManagedIdentity, serve
from simulator.identity.tokens import (
    ARM,
    CLIENT_ID,
    EVENT_GRID,
    OPERATOR,
    PRINCIPAL_ID,
    STORAGE,
    TENANT_ID,
    Expired,
    TokenRefused,
    WrongAudience,
    WrongTenant,
    check,
    check_header,
    mint,
)

__all__ = [
    "API_VERSION",
    "ARM",
    "CLIENT_ID",
    "EVENT_GRID",
    "OPERATOR",
    "PRINCIPAL_ID",
    "STORAGE",
    "TENANT_ID",
    "Answer",
    "ClockCredential",
    "Expired",
    "ManagedIdentity",
    "StaticCredential",
    "TokenRefused",
    "WrongAudience",
    "WrongTenant",
    "check",
    "check_header",
    "mint",
    "serve",
]
