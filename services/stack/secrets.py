"""Secrets of a stack: made once, kept in files that only their owner reads."""

import os
import secrets
from pathlib import Path

PASSWORD_BYTES = 24
KEY_BYTES = 32


class Secrets:
    """The folder of secrets; each is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the file of a password, which is made if it is missing."""
        path = self.folder / name
        if not path.exists():
            self.write(name, secrets.token_urlsafe(PASSWORD_BYTES))
        return path

    def key_path(self, name: str) -> Path:
        """Return the file of a key, hexadecimal digits, which is made if it is missing."""
        path = self.folder / name
        if not path.exists():
            self.write(name, secrets.token_hex(KEY_BYTES))
        return path

    def password(self, name: str) -> str:
        """Return a password, which is made if it is missing."""
        return self.path(name).read_text().strip()

    def write(self, name: str, content: str) -> Path:
        """Write a secret so that nobody ever sees half of it, nor anybody else any."""
        private_folder(self.folder)
        path = self.folder / name
        write_private(path, content)
        return path


def private_folder(path: Path) -> None:
    """Make a folder that only its owner enters."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: str) -> None:
    """Write a file with mode 0600, whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
