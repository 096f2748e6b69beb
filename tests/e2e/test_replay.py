"""`interchange replay` against the whole stack, as a process that can be killed."""

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.stack.blotter import COLUMNS
from services.stack.stack import Stack

ROOT = Path(__file__).resolve().parent.parent.parent
TAPE = ROOT.parent / "shared" / "data" / "tape" / "trades_20131007.csv.gz"
ROWS = 12_000
TIMEOUT_S = 240

slow = pytest.mark.skipif(
    "INTERCHANGE_SLOW_TESTS" not in os.environ, reason="slow: set INTERCHANGE_SLOW_TESTS=1"
)


class Runs:
    """Starts replays for a tenant that no other test has."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.tenant = f"t{uuid.uuid4().hex[:12]}"

    def start(self, path: Path, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "services.stack.cli", "replay", str(path)]
        settings = self.stack.settings
        return subprocess.Popen(
            [*command, "--tenant", self.tenant, *options],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
                "INTERCHANGE_DATA_DIR": str(settings.data_dir),
                "INTERCHANGE_PORT_OFFSET": str(settings.port_offset),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, path: Path, *options: str) -> tuple[int, str]:
        with self.start(path, *options) as process:
            output, _ = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, output

    def get(self, path: str) -> Any:
        token = self.stack.token(self.tenant, ["auditor"])
        request = urllib.request.Request(
            self.stack.edge_url + path, headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def trades(self) -> list[Any]:
        found, token = [], ""
        while True:
            page = self.get(f"/v1/trades?pageSize=1000&pageToken={token}")
            found += page["trades"]
            token = page["nextPageToken"]
            if not token:
                return found

    def wait_for_a_trade(self) -> None:
        ends = time.monotonic() + 60
        while not self.get("/v1/trades?pageSize=1")["trades"]:
            assert time.monotonic() < ends, "nothing was booked"
            time.sleep(0.02)


@pytest.fixture
def runs(stack: Stack, tmp_path: Path) -> Runs:
    return Runs(stack, tmp_path)


def blotter(folder: Path, count: int, name: str = "day.csv", accounts: int = 20) -> Path:
    """Write a small made-up day, the same each time."""
    chance = random.Random(7)
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "fees"])
        for number in range(count):
            milliseconds = number * 1_000
            minutes, rest = divmod(milliseconds, 60_000)
            at = f"2013-10-07T{8 + minutes // 60:02d}:{minutes % 60:02d}:{rest / 1000:06.3f}Z"
            writer.writerow(
                [
                    f"e{number}",
                    at,
                    f"ACC{chance.randrange(accounts)}",
                    chance.choice(["AIG", "BAC", "IBM"]),
                    "XNYS",
                    chance.choice(["BUY", "SELL"]),
                    chance.randrange(1, 500),
                    f"{chance.randrange(1_000, 20_000) / 100:.2f}",
                    "USD",
                    chance.choice(["", "0.35", "1.00"]),
                ]
            )
    return path


def figure(output: str, name: str) -> int:
    """Return the figure of a line of the summary."""
    line = next(line for line in output.splitlines() if line.startswith(f"{name} "))
    return int(line.split()[-1].replace(",", ""))


def test_blotter_is_booked_posted_and_recounted(runs: Runs, tmp_path: Path) -> None:
    code, output = runs.run(blotter(tmp_path, 1_500))
    assert code == 0, output
    assert figure(output, "booked") == 1_500
    assert "✗" not in output
    assert len(runs.trades()) == 1_500
    assert not (tmp_path / "day.rejects.csv").exists()


def test_replayed_blotter_is_already_booked_whatever_the_file_is_called(
    runs: Runs, tmp_path: Path
) -> None:
    path = blotter(tmp_path, 1_500)
    assert runs.run(path)[0] == 0
    moved = tmp_path / "elsewhere.csv.gz"
    moved.write_bytes(gzip.compress(path.read_bytes()))

    code, output = runs.run(moved)

    assert code == 0, output
    assert figure(output, "booked") == 0
    assert figure(output, "already booked") == 1_500
    assert len(runs.trades()) == 1_500


def test_killed_replay_books_nothing_twice_when_started_again(runs: Runs, tmp_path: Path) -> None:
    path = blotter(tmp_path, ROWS)
    with runs.start(path) as process:
        runs.wait_for_a_trade()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
    before = len(runs.trades())
    assert 0 < before < ROWS

    code, output = runs.run(path)

    assert code == 0, output
    assert figure(output, "already booked") >= before
    assert figure(output, "booked") + figure(output, "already booked") == ROWS
    assert "✗" not in output
    trades = runs.trades()
    assert len(trades) == ROWS
    assert {trade["externalId"] for trade in trades} == {f"e{number}" for number in range(ROWS)}
    numbers = Counter((trade["accountId"], trade["sequence"]) for trade in trades)
    assert max(numbers.values()) == 1


@pytest.mark.parametrize("server", ["trade", "envoy"])
def test_connection_lost_in_the_middle_is_survived(runs: Runs, tmp_path: Path, server: str) -> None:
    path = blotter(tmp_path, ROWS)
    with runs.start(path) as process:
        runs.wait_for_a_trade()
        runs.stack.kill(server)
        runs.stack.up(only=[runs.stack.server(server).name])
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert figure(output, "connections that broke") >= 1
    assert "✗" not in output
    assert len(runs.trades()) == ROWS


def test_stack_that_stays_away_ends_the_run_with_code_2(runs: Runs, tmp_path: Path) -> None:
    path = blotter(tmp_path, ROWS)
    with runs.start(path, "--patience", "2") as process:
        runs.wait_for_a_trade()
        runs.stack.kill("trade")
        output, _ = process.communicate(timeout=TIMEOUT_S)
    runs.stack.up(only=[runs.stack.server("trade").name])
    assert process.returncode == 2, output
    assert "what is booked stays booked" in output
    assert runs.run(path)[0] == 0
    assert len(runs.trades()) == ROWS


def test_rejects_name_line_field_and_reason_and_stop_nothing(runs: Runs, tmp_path: Path) -> None:
    path = blotter(tmp_path, 100)
    header, *good = path.read_bytes().splitlines()
    one = good[0].replace(b"e0,", b"bad%d,")
    bad = [
        b"only,three,columns",
        one.replace(b"2013", b"20x3") % 1,
        b"\xff\xfe" + one % 2,
        one.replace(b"bad%d", b"ba\0d"),
        one % 3 + b"9" * 3_000,
        one.replace(b"USD", b"EUR") % 4,
        (one.rpartition(b",XNYS,")[0] % 5).rpartition(b",")[0] + b",NOPE,XNYS,BUY,1,1,USD,",
        good[1].replace(b"e1,", b"e2,"),
    ]
    assert runs.run(path, "--no-verify")[0] == 0
    path.write_bytes(b"\n".join([header, *good[:50], *bad, *good[50:]]) + b"\n")

    code, output = runs.run(path)

    assert code == 1, output
    assert figure(output, "already booked") == 100
    assert figure(output, "rejected") == len(bad)
    with (tmp_path / "day.rejects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["line", "field", "reason", "description"]
    assert {(int(row["line"]), row["field"], row["reason"]) for row in rows} == {
        (52, "", "COLUMN_COUNT"),
        (53, "trade_time", "TRADE_TIME_INVALID"),
        (54, "", "ENCODING_INVALID"),
        (55, "", "NUL_CHARACTER"),
        (56, "", "LINE_TOO_LONG"),
        (57, "currency", "CURRENCY_MISMATCH"),
        (58, "symbol", "INSTRUMENT_NOT_FOUND"),
        (59, "external_id", "EXTERNAL_ID_REUSED"),
    }
    assert all(row["description"] for row in rows)


def test_accounts_are_left_alone_when_told_so(runs: Runs, tmp_path: Path) -> None:
    code, output = runs.run(blotter(tmp_path, 10), "--no-create-accounts", "--rejects", "why.csv")
    assert code == 1, output
    assert "0 of them created" in output
    assert figure(output, "rejected") == 10
    assert (tmp_path / "why.csv").exists()
    assert runs.get("/v1/accounts")["accounts"] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("", "is empty"),
        ("external_id,account\n", "lacks trade_time, symbol"),
    ],
)
def test_file_that_is_no_blotter_is_a_failure(
    runs: Runs, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "day.csv"
    if content is not None:
        path.write_text(content)
    code, output = runs.run(path)
    assert code == 2
    assert said in output
    assert "Traceback" not in output


@slow
@pytest.mark.skipif(not TAPE.exists(), reason=f"needs the real trading day at {TAPE}")
def test_real_trading_day_is_booked(runs: Runs) -> None:
    code, output = runs.run(TAPE)
    assert code == 0, output
    assert figure(output, "booked") == 137_816
    assert "✗" not in output
