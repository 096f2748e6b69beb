import json
import logging

import structlog
from pydantic import SecretStr

from services.common import identity, logs


def logged(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lines_are_json_with_secrets_removed(capsys):
    logs.configure("INFO", "trade")
    try:
        structlog.get_logger("x").info(
            "connected",
            url="postgresql://trade_api:hunter2@db:5432/x",
            password="hunter2",
            headers={"Authorization": "Bearer hunter2", "accept": "json"},
            key=SecretStr("hunter2"),
        )
        logging.getLogger("library").warning("took %s", "postgresql://u:hunter2@db/x")
        logging.getLogger("library").debug("not shown")
    finally:
        structlog.reset_defaults()
        logging.basicConfig(handlers=[], force=True)

    ours, theirs = logged(capsys)
    assert "hunter2" not in json.dumps([ours, theirs])
    assert ours["service"] == theirs["service"] == "trade"
    assert ours["url"] == "postgresql://trade_api:[redacted]@db:5432/x"
    assert ours["headers"] == {"Authorization": "[redacted]", "accept": "json"}
    assert theirs["level"] == "warning"


async def test_lines_of_a_call_name_its_tenant(capsys):
    logs.configure("INFO", "trade")
    identity.enter(identity.Caller("acme", "ann", ("trader",)))
    try:
        structlog.get_logger("y").info("here")
    finally:
        structlog.reset_defaults()
        logging.basicConfig(handlers=[], force=True)

    assert logged(capsys)[0]["tenant"] == "acme"
