"""What happens to one launch, decided without I/O: happenings in, commands out.

Knows nothing of asyncio, clocks or networks; the time of each happening is an argument (seconds of a monotonic clock). The
life of a launch: it is translated, App and image are prepared, it stands in line, its sandbox is created (a GPU
goes from candidate to candidate), the workload is handed over, the end is waited for and explained. A create whose outcome is
unknown is resolved by the name of that attempt, never by creating another. ``driver`` performs the commands.

Two rules keep a task from running twice. A workload inside the create call ("secret") is in every sandbox of that name, so a
sandbox that is found is gone on with. A workload on stdin is given to one sandbox only, after its create is known.

``record`` holds what is known of a launch, ``machine`` is the way in; the modules between hold the transitions, each of which may
use those before it: ``patience``, ``ending``, ``running``, ``waiting``, ``creating``, ``preparing``, ``adopting``,
``withdrawing``.
"""

from modalflow.launch.lifecycle.creating import SLOW_CREATE
from modalflow.launch.lifecycle.machine import Lifecycle
from modalflow.launch.lifecycle.patience import SANDBOX_LIFE, UNREACHABLE_LIMIT
from modalflow.launch.lifecycle.record import Adoption, Rules

__all__ = ["SANDBOX_LIFE", "SLOW_CREATE", "UNREACHABLE_LIMIT", "Adoption", "Lifecycle", "Rules"]
