"""CONFIGURATION.md, from the settings and their docstrings.

`python -m services.stack.configuration` writes it; a test compares.
"""

from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from services.common.config import Settings
from services.stack.settings import StackSettings

PATH = Path(__file__).resolve().parents[2] / "CONFIGURATION.md"

INTRODUCTION = """# Configuration

Every setting is an environment variable. Secrets may come from files. Written by
`python -m services.stack.configuration` from the settings themselves.
"""


def text() -> str:
    """Return the whole document."""
    return "\n".join(
        [
            INTRODUCTION,
            "## The `interchange` command and its servers",
            "",
            _table(StackSettings),
            "",
            "## A service process",
            "",
            "`interchange up` sets addresses, password and folders of the services it starts; the",
            "rest is passed on from its own environment.",
            "",
            _table(Settings),
            "",
        ]
    )


def _table(settings: type[BaseSettings]) -> str:
    prefix = str(settings.model_config.get("env_prefix", ""))
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `{prefix}{name.upper()}` | {_default(field)} | {meaning} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"`{value}`" if str(value) and value is not None else ""


if __name__ == "__main__":
    PATH.write_text(text())
