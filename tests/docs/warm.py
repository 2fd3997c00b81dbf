"""A process that has imported what hetlm's commands import, and forks for each command: seconds of imports, once."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

IMPORTED = (
    "browsing.cli",
    "browsing.engines.local",
    "lightgbm",
    "loadtest.run",
    "loadtest.soak.commands",
    "matplotlib.figure",
    "peft",
    "sentence_transformers",
    "service.app",
    "service.score_command",
    "service.serve",
    "tests.docs.programs",
    "training.evaluation.compare.command",
    "training.evaluation.run",
    "training.lora.tune",
    "training.pipeline",
    "training.report.render",
    "transformers.models.llama.modeling_llama",
)


@contextmanager
def warm(place: Path) -> Iterator[Path]:
    """Such a process, with its socket at `place`; it is ready when this yields."""
    began = subprocess.Popen([sys.executable, "-m", "tests.docs.warm", str(place)], stdout=subprocess.PIPE)
    try:
        assert began.stdout is not None
        assert began.stdout.readline(), "what hetlm needs cannot be imported: see above"
        yield place
    finally:
        began.terminate()
        began.communicate()


def main(place: str) -> NoReturn:
    for module in IMPORTED:
        importlib.import_module(module)
    if threading.active_count() != 1:
        raise SystemExit(f"imports have started threads: {threading.enumerate()}; a fork would not have them")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: they tell their end themselves
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _child(connection)


def _child(connection: socket.socket) -> NoReturn:
    """Becomes what asked, in its folder, with its environment and its standard streams; runs the words."""
    from tests.docs import programs

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    body = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
        os.close(given)
    asked = json.loads(body)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    connection.sendall(f"{os.getpid()}\n".encode())
    code = programs.run(asked["words"])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    connection.sendall(f"{code}\n".encode())
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
