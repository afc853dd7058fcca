"""Objects in processes of their own, asked through a pipe.

TensorFlow and PyTorch would fight over threads in one process.
"""

import logging
import multiprocessing
import os
import pkgutil
import time
from multiprocessing.connection import Connection
from typing import Any

import click

# What was under way when a process answered, such as batches made ahead, has ended by
# then.
_WINDING_DOWN_SECONDS = 5.0


class WorkerFailed(click.ClickException):
    """A process has ended with an error, which it has printed."""


class Worker:
    """An object in a process of its own, with its thread pools.

    Args:
        name: What it is called in messages.
        kind: The class of the object, ``"module:class"``; the process imports it.
        arguments: What it is made of.
    """

    def __init__(self, name: str, kind: str, *arguments: object) -> None:
        self.name = name
        #: The largest share of one core that the process took while it waited.
        self.idle_share = 0.0
        #: The processor time of the last answer.
        self.processor_seconds = 0.0
        # A forked process would share the state of the threads, but not the threads.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()  # else nobody would notice that the process has ended
        self._send(kind, arguments)

    def ask(self, method: str, *arguments: object, limit: float | None = None) -> Any:
        """Calls a method and returns what it returns.

        Args:
            method: Its name.
            arguments: What it is called with.
            limit: How many seconds it may take; None: any time.

        Raises:
            TimeoutError: It took longer; the worker is gone.
            WorkerFailed: The process has ended, in this call or before it.
        """
        self._send(method, arguments)
        if not self._connection.poll(limit):
            self.close()
            raise TimeoutError(f"{self.name}: {method} took over {limit:g} s")
        try:
            answer, self.processor_seconds, idle_share = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerFailed(f"{self.name}: {method} failed") from error
        self.idle_share = max(self.idle_share, idle_share)
        return answer

    def _send(self, name: str, arguments: tuple[object, ...]) -> None:
        try:
            self._connection.send((name, arguments))
        except ConnectionError as error:
            raise WorkerFailed(f"{self.name}: failed before {name}") from error

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection) -> None:
    """Makes the object that a pipe asks for, then answers calls until it is closed.

    Each answer comes with the processor time that it took, and with the share of one
    core that the process took while it waited.
    """
    os.dup2(2, 1)  # standard output is for the report alone
    logging.disable(logging.WARNING)
    kind, arguments = connection.recv()
    served = pkgutil.resolve_name(kind)(*arguments)
    waiting_since, busy = time.perf_counter(), time.process_time()
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        waited = time.perf_counter() - waiting_since
        took = time.process_time() - busy
        idle_share = took / waited if waited > _WINDING_DOWN_SECONDS else 0.0
        busy = time.process_time()
        answer = getattr(served, method)(*arguments)
        connection.send((answer, time.process_time() - busy, idle_share))
        waiting_since, busy = time.perf_counter(), time.process_time()
