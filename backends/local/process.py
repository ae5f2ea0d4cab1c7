"""One worker process as the program sees it: start, send, receive, end.

Knows frames and exit codes, not jobs; when to start another is backend.py's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque

from backends.local.opening import Opening
from backends.local.wire import Frame, pack, read_frame

_log = logging.getLogger(__name__)
_KEPT_LINES = 30
_STREAM_LIMIT = 2**20


class WorkerProcess:
    """A started worker. Frames are read in order by one task; the end of the process reads as None."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, opening: Opening, factory: str) -> WorkerProcess:
        """Start a process that opens its engine by `factory`; returns before the model is loaded.

        A session of its own keeps the terminal's signals away; -P keeps the working folder out of its
        import path.
        """
        ours, theirs = socket.socketpair()
        process: asyncio.subprocess.Process | None = None
        try:
            process = await _spawn(theirs, factory)
            reader, writer = await asyncio.open_connection(sock=ours, limit=_STREAM_LIMIT)
        except BaseException:  # also when cancelled: neither a socket nor a process is left
            ours.close()
            if process is not None:
                process.kill()
                await process.wait()
            raise
        finally:
            theirs.close()
        worker = cls(process, reader, writer)
        worker.send(Frame("open", data=opening.to_json()))
        return worker

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last lines that it wrote to stderr."""
        return "\n".join(self._lines)

    def send(self, frame: Frame) -> None:
        """Queue a frame; lost where the process has ended."""
        self._writer.write(pack(frame))

    async def receive(self) -> Frame | None:
        """The next frame; None once the process has ended."""
        return await read_frame(self._reader)

    def kill(self) -> None:
        """End it at once: it holds nothing that is not made again."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Not self._process.kill(): that would take the exit code away from wait().
                os.kill(self._process.pid, signal.SIGKILL)

    async def close(self) -> int:
        """Make sure that it is gone; its exit code (negative: the signal)."""
        self.kill()
        code = await self._process.wait()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._listening
        return code

    async def _listen(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        while chunk := await stream.read(65536):
            for line in chunk.decode(errors="replace").splitlines():
                _log.debug("worker %d: %s", self.pid, line)
                self._lines.append(line[:500])


async def _spawn(connection: socket.socket, factory: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "backends.local.worker",
        str(connection.fileno()),
        str(os.getpid()),
        factory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(connection.fileno(),),
        start_new_session=True,
    )
