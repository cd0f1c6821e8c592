"""What brings local bundles to Modal, made of Airflow's own reader of ``.airflowignore`` and of the gateway.

In: settings, and folders by bundle. Out: the factory that ``launch.backend`` calls for each loop. Next: ``dag_code.desk``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, cast

from modalflow.dag_code.copies import Clocks
from modalflow.dag_code.desk import DagCodeDesk
from modalflow.dag_code.manifest import MIB
from modalflow.dag_code.reading import Considered, FolderReader, FolderRules
from modalflow.dag_code.tree import IGNORE_FILE
from modalflow.launch.dag_code import DagCode, MakeDagCode, no_dag_code

if TYPE_CHECKING:
    from modalflow.dag_code.copies import CodeVolume
    from modalflow.launch.gateway import Gateway
    from modalflow.modal_gateway.gateway import ModalGateway
    from modalflow.settings import Settings


def dag_code_of(settings: Settings, folders: Mapping[str, str], *, ignore_syntax: str) -> MakeDagCode:
    """Return what makes the bringer of ``folders``; ``ignore_syntax`` is ``[core] dag_ignore_file_syntax``."""
    if not folders:
        return no_dag_code
    wanted, deployment = settings.dag_code, settings.launch.deployment
    rules = FolderRules(limit=wanted.limit * MIB, ignored_modules=wanted.ignored_modules, outside_links=wanted.outside_links)

    def reader(folder: str) -> FolderReader:
        return FolderReader(folder, rules, considered_by_airflow(ignore_syntax))

    def make(gateway: Callable[[], Gateway]) -> DagCode:
        @cache
        def volume(conn_id: str | None) -> CodeVolume:
            from modalflow.modal_gateway.code_volume import ModalCodeVolume  # noqa: PLC0415 - on the loop's own thread

            return ModalCodeVolume(partial(_account, gateway, conn_id), wanted.volume, deployment=deployment)

        return DagCodeDesk(
            {name: partial(reader, folder) for name, folder in folders.items()},
            volume,
            deployment=deployment,
            keep_days=wanted.keep,
            requirements=wanted.requirements,
            clocks=Clocks(wall=time.time, now=time.monotonic, sleep=asyncio.sleep),
        )

    return make


def _account(gateway: Callable[[], Gateway], conn_id: str | None) -> ModalGateway:
    """Return the gateway to the account of a connection, as ``modal_connections.build_gateway`` made it."""
    from modalflow.modal_gateway.accounts import AccountsGateway  # noqa: PLC0415 - on the loop's own thread

    found = gateway()
    return found.account(conn_id) if isinstance(found, AccountsGateway) else cast("ModalGateway", found)


def considered_by_airflow(syntax: str) -> Considered:
    """Return Airflow's own search for the files that ``.airflowignore`` leaves, in ``syntax`` (``glob`` or ``regexp``)."""

    def considered(folder: str) -> Iterable[str]:
        from airflow._shared.module_loading import find_path_from_directory  # noqa: PLC0415 - where there is such a file

        found: Iterable[str] = find_path_from_directory(folder, IGNORE_FILE, syntax)
        return found

    return considered
