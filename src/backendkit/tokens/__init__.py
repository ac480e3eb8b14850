"""Tokens: strict JWT pairs, sessions whose rotation survives two tabs, guards, API keys, second factors.

    tokens = Tokens(keys=KeyRing.generate("EdDSA"), secret=SecretRing.generate(),
                    issuer="https://id.example", audience="api", store=store)
    pair = tokens.issue("user-1", roles=["editor"], device="laptop")
    principal = tokens.verify(pair.access_token)
    pair = tokens.refresh(pair.refresh_token)
    tokens.revoke(pair.session_id)
    tokens.revoke_all("user-1")

`tokens.aio` is the asynchronous face of the same state. Three layers can be used alone: `jws` for signatures,
`Verifier` for the claims of any issuer, `Tokens` for sessions. Importing this needs neither pydantic nor redis.
"""

from __future__ import annotations

from backendkit.tokens import jws
from backendkit.tokens.api_keys import ApiKeyRecord, ApiKeyRepository, ApiKeys, MemoryApiKeys
from backendkit.tokens.errors import (
    AccessDenied,
    AlreadyEnrolled,
    CsrfRefused,
    InsufficientScope,
    InvalidToken,
    KeyRefused,
    NotAuthenticated,
    SessionEnded,
    StaleLogin,
    TokenError,
    TokenExpired,
    TokenReused,
    TokenRevoked,
)
from backendkit.tokens.face import AsyncTokens, Tokens
from backendkit.tokens.guards import (
    Permissions,
    Rule,
    all_of,
    any_of,
    fresh,
    has_roles,
    has_scopes,
    is_owner,
    owner_or_roles,
    require,
    where,
)
from backendkit.tokens.keys import Key
from backendkit.tokens.one_time import OneTime
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.principal import Client, Grants, Principal, SessionInfo, TokenPair
from backendkit.tokens.purpose import Purpose
from backendkit.tokens.remote import RemoteKeys, RemoteVerifier
from backendkit.tokens.ring import KeyDocument, KeyRing
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.state import Loader
from backendkit.tokens.totp import FactorRepository, MemoryFactors, SecondFactor
from backendkit.tokens.verifier import Verifier

__all__ = [
    "AccessDenied",
    "AlreadyEnrolled",
    "ApiKeyRecord",
    "ApiKeyRepository",
    "ApiKeys",
    "AsyncTokens",
    "Client",
    "CsrfRefused",
    "FactorRepository",
    "Grants",
    "InsufficientScope",
    "InvalidToken",
    "Key",
    "KeyDocument",
    "KeyRefused",
    "KeyRing",
    "Loader",
    "MemoryApiKeys",
    "MemoryFactors",
    "NotAuthenticated",
    "OneTime",
    "Permissions",
    "Principal",
    "Purpose",
    "RemoteKeys",
    "RemoteVerifier",
    "Rule",
    "SecondFactor",
    "SecretRing",
    "SessionEnded",
    "SessionInfo",
    "StaleLogin",
    "TokenError",
    "TokenExpired",
    "TokenPair",
    "TokenPolicy",
    "TokenReused",
    "TokenRevoked",
    "Tokens",
    "Verifier",
    "all_of",
    "any_of",
    "fresh",
    "has_roles",
    "has_scopes",
    "is_owner",
    "jws",
    "owner_or_roles",
    "require",
    "where",
]
