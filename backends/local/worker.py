"""The worker process: reads jobs from a pipe, has an engine make them, writes events back.

Started by process.py as `python -m backends.local.worker FD FACTORY`. It ignores the terminal's signals and
ends when its pipe closes or its parent dies, so that a killed bot leaves no orphan. It knows no model: the
factory (`module:function`) makes the engine.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from typing import BinaryIO, cast

from backends.local.opening import Engine, EngineFactory, Job, Opening
from backends.local.wire import Frame, error_frame, pack, read_frame_blocking, request_of
from bot.core.errors import FairbrushError, Unavailable

_PR_SET_PDEATHSIG = 1


class Worker:
    """Commands in, frames out. A reader thread fills the inbox also while the engine works."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._engine: Engine | None = None

    def run(self, factory: EngineFactory) -> None:
        """Open the engine and work until the pipe closes (which ends the process)."""
        stream = cast(BinaryIO, self._connection.makefile("rb"))
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        opening = Opening.from_json(self._inbox.get().data)
        self._engine = engine = factory(opening, self.emit, self.poll)
        self.emit(Frame("ready", data=engine.ready()))
        while True:
            self.poll()
            if not engine.step():
                self._handle(self._inbox.get())

    def emit(self, frame: Frame) -> None:
        """Send a frame; blocks while the program does not read."""
        try:
            self._connection.sendall(pack(frame))
        except OSError:
            os._exit(0)

    def poll(self) -> None:
        """Hand over what came meanwhile."""
        while True:
            try:
                frame = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        assert self._engine is not None, "frames are handled once the engine is open"  # noqa: S101
        if frame.kind == "job":
            self._engine.submit(Job(frame.job, request_of(frame), bool(frame.data["alone"])))
        elif frame.kind == "cancel":
            self._engine.cancel(frame.job)

    def _read(self, stream: BinaryIO) -> None:
        """The pipe's end is the process's end, whatever the engine is doing."""
        try:
            while (frame := read_frame_blocking(stream)) is not None:
                self._inbox.put(frame)
        finally:
            os._exit(0)


def _die_with_parent(parent: int) -> None:
    """A second guard beside the pipe: Linux sends SIGKILL when the thread that started us ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def main(argv: list[str]) -> int:
    """argv: the pipe's file descriptor, the parent's process id, the engine's factory."""
    descriptor, parent, name = argv
    _die_with_parent(int(parent))
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    # Threads that spin while they wait make a step a hundred times slower beside any other busy process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    worker = Worker(socket.socket(fileno=int(descriptor)))
    module, _, function = name.partition(":")
    try:
        worker.run(getattr(importlib.import_module(module), function))
    except FairbrushError as error:
        worker.emit(error_frame("fatal", "", error))
    except Exception as error:  # the last line of defence: it is told to the program, then the process ends
        text = f"The model's worker failed: {type(error).__name__}: {str(error)[:300]}"
        worker.emit(error_frame("fatal", "", Unavailable(text, detail=traceback.format_exc())))
    return 1


if __name__ == "__main__":
    # Not sys.exit: threads of the engine's libraries must not hold the process.
    os._exit(main(sys.argv[1:]))
