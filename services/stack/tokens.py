"""The signing key of a stack, which never leaves the machine, and tokens by it."""

from collections.abc import Sequence

from joserfc.jwk import ECKey

from services.common import tokens
from services.common.errors import InvalidArgument
from services.stack.errors import StackError
from services.stack.secrets import Secrets
from services.stack.settings import StackSettings

KEY_FILE = "token_key.json"


class Issuer:
    """Signs tokens; its public keys go to Envoy and to the gateway."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings

    def ensure_keys(self) -> None:
        """Make the key pair if it is missing, and write the public part."""
        draft = self.settings.jwks_path.with_suffix(".draft")
        draft.write_text(tokens.key_set(self._key()))
        draft.replace(self.settings.jwks_path)

    def token(
        self, tenant: str, roles: Sequence[str], subject: str = "demo", ttl_minutes: int = 60
    ) -> str:
        """Return a signed token. Raises `StackError` for a bad tenant, role or lifetime."""
        try:
            return tokens.issue(self._key(), tenant, roles, subject, 60 * ttl_minutes)
        except InvalidArgument as error:
            raise StackError(error.message) from None

    def _key(self) -> ECKey:
        path = self.settings.secrets_dir / KEY_FILE
        if not path.exists():
            Secrets(self.settings.secrets_dir).write(KEY_FILE, tokens.new_key())
        return tokens.private_key(path.read_text())
