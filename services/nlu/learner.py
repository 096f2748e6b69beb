"""The process that trains: `python -m services.nlu.learner`, started by trainer.py.

A TrainModelRequest comes in by stdin, a packed model goes out by stdout. Exit
code 3 says that the examples teach nothing; stdout then says why. It is a
process of its own, so that training takes neither the event loop nor the lock
of the interpreter from who serves, and its memory goes with it.
"""

import os
import sys
import threading
import time

from interchange.nlu.v1.nlu_service_pb2 import TrainModelRequest

UNLEARNABLE = 3
NICENESS = 5
ORPHAN_CHECK_S = 1.0


def main() -> int:
    """Train once."""
    _leave_with(os.getppid())
    os.nice(NICENESS)
    data = sys.stdin.buffer.read()
    from services.nlu.training import Unlearnable

    try:
        sys.stdout.buffer.write(learned(data))
    except Unlearnable as error:
        sys.stdout.write(str(error))
        return UNLEARNABLE
    return 0


def learned(data: bytes) -> bytes:
    """Return the packed model that a serialized TrainModelRequest teaches; raises Unlearnable."""
    # Imported here: the service never needs the library, and a process that
    # becomes an orphan while it is imported notices.
    from services.nlu import content, training

    request = TrainModelRequest.FromString(data)
    return content.pack(training.train([(one.text, one.intent) for one in request.examples]))


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would take the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
