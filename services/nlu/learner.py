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

UNLEARNABLE = 3
NICENESS = 10
ORPHAN_CHECK_S = 1.0


def main() -> int:
    """Train once."""
    _leave_with(os.getppid())
    os.nice(NICENESS)
    data = sys.stdin.buffer.read()
    # Imported here: it takes a second, in which an orphan would not notice.
    from interchange.nlu.v1.nlu_service_pb2 import TrainModelRequest

    from services.nlu import content, training

    request = TrainModelRequest.FromString(data)
    try:
        learned = training.train([(one.text, one.intent) for one in request.examples])
    except training.Unlearnable as error:
        sys.stdout.write(str(error))
        return UNLEARNABLE
    sys.stdout.buffer.write(content.pack(learned))
    return 0


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would take the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
