"""Tokens for callers of the edge: ES256, by a key that never leaves the machine."""

import json
import re
import time
import uuid
from collections.abc import Sequence

from joserfc import jwt
from joserfc.jwk import ECKey

from services.common.identity import ROLES
from services.stack.errors import StackError
from services.stack.secrets import Secrets
from services.stack.settings import StackSettings

ISSUER = "interchange"
AUDIENCE = "interchange"
KEY_FILE = "token_key.json"
TENANT = re.compile(r"[a-z][a-z0-9-]{0,31}")
TTL_MINUTES_MAX = 24 * 60


class Issuer:
    """Signs tokens; its public keys go to Envoy."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings

    def ensure_keys(self) -> None:
        """Make the key pair if it is missing, and write the public part."""
        public = self._key().as_dict(private=False) | {"alg": "ES256", "use": "sig"}
        draft = self.settings.jwks_path.with_suffix(".draft")
        draft.write_text(json.dumps({"keys": [public]}))
        draft.replace(self.settings.jwks_path)

    def token(
        self, tenant: str, roles: Sequence[str], subject: str = "demo", ttl_minutes: int = 60
    ) -> str:
        """Return a signed token. Raises `StackError` for a bad tenant, role or lifetime."""
        _check(tenant, roles, subject, ttl_minutes)
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant_id": tenant,
            # One string: Envoy forwards an array as base64 of its JSON.
            "roles": " ".join(roles),
            "iat": now,
            "exp": now + 60 * ttl_minutes,
            "jti": uuid.uuid4().hex,
        }
        key = self._key()
        return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key, algorithms=["ES256"])

    def _key(self) -> ECKey:
        secrets = Secrets(self.settings.secrets_dir)
        path = self.settings.secrets_dir / KEY_FILE
        if not path.exists():
            key = ECKey.generate_key("P-256", auto_kid=True)
            secrets.write(KEY_FILE, json.dumps(key.as_dict(private=True)))
        return ECKey.import_key(json.loads(path.read_text()))


def _check(tenant: str, roles: Sequence[str], subject: str, ttl_minutes: int) -> None:
    if not TENANT.fullmatch(tenant):
        raise StackError(f"tenant was {tenant!r}, expected {TENANT.pattern}")
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise StackError(
            f"roles were {', '.join(roles) or 'none'}, expected some of {', '.join(ROLES)}"
        )
    if not subject or not subject.isprintable() or len(subject) > 64:
        raise StackError(f"subject was {subject!r}, expected 1 to 64 printable characters")
    if not 1 <= ttl_minutes <= TTL_MINUTES_MAX:
        raise StackError(f"ttl was {ttl_minutes} minutes, expected 1 to {TTL_MINUTES_MAX}")
