"""`interchange demo`, small, twice over the same stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

from services.stack.stack import Stack

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 240


def run(stack: Stack) -> str:
    settings = stack.settings
    options = ["--trades", "3000", "--accounts", "20", "--calls", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "services.stack.cli", "demo", *options],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
            "INTERCHANGE_DATA_DIR": str(settings.data_dir),
            "INTERCHANGE_PORT_OFFSET": str(settings.port_offset),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_passes_its_checks_and_can_be_run_again(stack: Stack) -> None:
    first, second = run(stack), run(stack)
    for output in (first, second):
        assert "3,000 of 3,000" in output
        assert "✗" not in output
        assert "p99" in output
        assert "EXTERNAL_ID_REUSED" in output
    numbers = [int(re.findall(r"run (\d+)", output)[0]) for output in (first, second)]
    assert numbers[1] == numbers[0] + 1


def test_commands_that_the_demo_proposes_work(stack: Stack) -> None:
    lines = [line for line in run(stack).splitlines() if line.startswith("curl ")]
    assert len(lines) == 2
    environment = {
        **os.environ,
        "INTERCHANGE_DATA_DIR": str(stack.settings.data_dir),
        "INTERCHANGE_PORT_OFFSET": str(stack.settings.port_offset),
    }
    answers = [
        subprocess.run(
            ["bash", "-c", line],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for line in lines
    ]
    assert '"averageCost"' in answers[0]
    assert '"PROCESSING_STATE_POSTED"' in answers[1]
