"""Which exceptions are the fault of an object in a user's ``executor_config``, and which are the process's own business.

An object's ``__eq__`` or ``keys`` may raise anything, ``SystemExit`` too, and the scheduler's loop is above us: such a task is
refused. But Airflow's scheduler ends by ``SystemExit`` out of its handler of SIGTERM, and a DAG file's timeout is a
``BaseException`` out of that of SIGALRM (airflow 3.3.2); these may come at any line and must go on, and so must Ctrl-C.
"""

from __future__ import annotations

import signal
from types import CodeType, TracebackType


def is_of_the_process(error: BaseException) -> bool:
    """Tell what must be raised on: ``KeyboardInterrupt``, and whatever a handler of a signal raised."""
    if isinstance(error, Exception):
        return False
    return isinstance(error, KeyboardInterrupt) or _is_of_a_signal(error.__traceback__)


def _is_of_a_signal(traceback: TracebackType | None) -> bool:
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    """Return the code of a function, a method, a partial of one, or an object that is called; ``None`` for any other handler."""
    function = getattr(handler, "func", handler)
    called = type(function).__call__ if callable(function) else None
    found = getattr(function, "__code__", None) or getattr(called, "__code__", None)
    return found if isinstance(found, CodeType) else None
