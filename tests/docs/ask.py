"""What stands on the PATH as `hetlm` and others: asks the warm process to run its words here, and ends as they do.

Run as a script, without site-packages, so that a command costs no more than its own work.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from types import FrameType


def main() -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["DOCS_WARM"])
        asked = {"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
        body = json.dumps(asked).encode()
        socket.send_fds(connection, [len(body).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(body)
        answers = connection.makefile()
        pid = int(answers.readline())

        def pass_on(number: int, _: FrameType | None) -> None:
            os.kill(pid, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        return int(answers.readline() or 1)  # nothing: it was killed


if __name__ == "__main__":
    sys.exit(main())
