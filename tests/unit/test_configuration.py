"""The settings and their document say the same."""

import pytest

from services.common.config import Settings
from services.stack import configuration
from services.stack.settings import StackSettings


def test_document_is_what_the_settings_say() -> None:
    assert configuration.PATH.read_text() == configuration.text(), (
        "run python -m services.stack.configuration and commit CONFIGURATION.md"
    )


@pytest.mark.parametrize("settings", [Settings, StackSettings])
def test_every_setting_says_what_it_means(settings: type[Settings | StackSettings]) -> None:
    nameless = [name for name, field in settings.model_fields.items() if not field.description]

    assert nameless == []


def test_password_never_shows_in_a_printed_setting() -> None:
    assert "hunter2" not in repr(Settings(database_password="hunter2"))  # type: ignore[arg-type]
