"""``launch.gateway.Gateway`` over several Modal accounts: a ``ModalGateway`` with a client of its own for each connection.

In: plans, whose ``home.conn_id`` says which account; sandbox ids and names, of which nobody says it. Out: the call of the right
account. Whose a sandbox is, is remembered from its create or from a listing; else every account is asked. An account that does
not answer keeps nobody else from its work. ``executor.modal_connections`` makes one where tasks may use further connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Self, TypeVar

from modalflow.launch.gateway import GatewayError, InvalidRequest, NotFound, SandboxEnd, SandboxStatus
from modalflow.modal_gateway.gateway import ModalGateway
from modalflow.translation.plan import SandboxPlan

log = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED = 200_000
"""Sandboxes whose account is remembered, some 100 bytes each; of one that is not, every account is asked."""


class AccountsGateway:
    """Used on one loop. ``accounts`` is by connection; ``None`` is the deployment's own, which has the executor's lines."""

    def __init__(self, accounts: Mapping[str | None, ModalGateway]) -> None:
        """Keep them; each connects at its first call."""
        self._accounts = dict(accounts)
        self._whose: OrderedDict[str, str | None] = OrderedDict()
        self._complaints: dict[str | None, str] = {}

    def account(self, conn_id: str | None) -> ModalGateway:
        """Return the gateway of a connection. Raises ``InvalidRequest`` if it is not among those that tasks may use."""
        found = self._accounts.get(conn_id)
        if found is None:
            raise InvalidRequest(
                f"the Airflow connection {conn_id!r} is not among [modal_executor] modal_conn_ids, so nothing is done with it"
            )
        return found

    async def check(self) -> str:
        """See ``Gateway.check``: of all accounts. Raises what the first raised that failed, with the words of all that did."""
        answers = await self._of_all(ModalGateway.check)
        failed = [answer for answer in answers.values() if isinstance(answer, GatewayError)]
        if failed:
            raise type(failed[0])("; ".join(map(str, failed)))
        return " and of ".join(map(str, answers.values()))

    async def prepare(self, plan: SandboxPlan) -> None:
        """See ``Gateway.prepare``."""
        await self.account(plan.home.conn_id).prepare(plan)

    async def create(
        self, plan: SandboxPlan, *, name: str, gpu: str | None, argv: Sequence[str], secret_env: Mapping[str, str]
    ) -> str:
        """See ``Gateway.create``."""
        account = self.account(plan.home.conn_id)
        sandbox_id = await account.create(plan, name=name, gpu=gpu, argv=argv, secret_env=secret_env)
        self._remember(sandbox_id, plan.home.conn_id)
        return sandbox_id

    async def hand_over(self, sandbox_id: str, payload: bytes) -> None:
        """See ``Gateway.hand_over``."""
        await (await self._account_of(sandbox_id)).hand_over(sandbox_id, payload)

    async def find(self, name: str) -> SandboxStatus | None:
        """See ``Gateway.find``, in all accounts."""
        for conn_id, found in self._heard(await self._of_all(lambda account: account.find(name))):
            if found is not None:
                self._remember(found.sandbox_id, conn_id)
                return found
        return None

    async def status(self, sandbox_id: str) -> SandboxStatus | None:
        """See ``Gateway.status``."""
        if sandbox_id in self._whose:
            return await self._accounts[self._whose[sandbox_id]].status(sandbox_id)
        return await self._look_everywhere(sandbox_id)

    async def wait(self, sandbox_id: str) -> SandboxEnd:
        """See ``Gateway.wait``."""
        end = await (await self._account_of(sandbox_id)).wait(sandbox_id)
        self._whose.pop(sandbox_id, None)
        return end

    async def terminate(self, sandbox_id: str) -> None:
        """See ``Gateway.terminate``. One that no account knows has ended."""
        try:
            account = await self._account_of(sandbox_id)
        except NotFound:
            return
        await account.terminate(sandbox_id)

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        """See ``Gateway.start_in``."""
        await (await self._account_of(sandbox_id)).start_in(sandbox_id, argv)

    async def list_running(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """See ``Gateway.list_running``: of all accounts that answer, and why the others do not is logged. Raises if none does."""
        return self._all(self._heard(await self._of_all(lambda account: account.list_running(tags)), some=True))

    async def list_launch(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """See ``Gateway.list_launch``. A launch is in one account: what another does not answer matters only if none has it."""
        return self._all(self._heard(await self._of_all(lambda account: account.list_launch(tags))))

    async def running_ids(self, tags: Mapping[str, str]) -> AsyncGenerator[list[str], None]:
        """See ``Gateway.running_ids``. What is known of an account that does not answer runs, as far as anybody can tell."""
        failed: list[GatewayError] = []
        for conn_id, account in self._accounts.items():
            try:
                async with aclosing(account.running_ids(tags)) as pages:
                    async for page in pages:
                        yield page
            except GatewayError as error:
                failed.append(error)
                self._complain(conn_id, error)
                yield [sandbox_id for sandbox_id, whose in self._whose.items() if whose == conn_id]
            else:
                self._complaints.pop(conn_id, None)
        if len(failed) == len(self._accounts):
            raise failed[0]

    async def output_tail(self, sandbox_id: str, *, max_bytes: int) -> str:
        """See ``Gateway.output_tail``."""
        try:
            account = await self._account_of(sandbox_id)
        except GatewayError:
            return ""  # as the protocol has it: the exit code tells the rest
        return await account.output_tail(sandbox_id, max_bytes=max_bytes)

    async def append_log(self, volume: str, path: str, text: str) -> None:
        """See ``Gateway.append_log``: in the deployment's own account."""
        await self.account(None).append_log(volume, path, text)

    def ping(self, answer: Callable[[], None]) -> None:
        """See ``Gateway.ping``. The clients share one thread, so the last one's answer is that of all."""
        *before, last = self._accounts.values()
        for account in before:
            account.ping(lambda: None)
        last.ping(answer)

    def stack(self) -> str:
        """See ``Gateway.stack``: of the thread that all share."""
        return self.account(None).stack()

    def successor(self) -> AccountsGateway:
        """See ``Gateway.successor``."""
        return AccountsGateway({conn_id: account.successor() for conn_id, account in self._accounts.items()})

    async def close(self) -> None:
        """Close all. Raises the first of what they raise."""
        answers = await self._of_all(ModalGateway.close)
        for answer in answers.values():
            if isinstance(answer, GatewayError):
                raise answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- which account

    def _remember(self, sandbox_id: str, conn_id: str | None) -> None:
        self._whose[sandbox_id] = conn_id
        if len(self._whose) > REMEMBERED:
            self._whose.popitem(last=False)

    async def _account_of(self, sandbox_id: str) -> ModalGateway:
        if sandbox_id not in self._whose and await self._look_everywhere(sandbox_id) is None:
            raise NotFound(f"no account of this deployment knows the sandbox {sandbox_id}")
        return self._accounts[self._whose[sandbox_id]]

    async def _look_everywhere(self, sandbox_id: str) -> SandboxStatus | None:
        for conn_id, found in self._heard(await self._of_all(lambda account: account.status(sandbox_id))):
            if found is not None:
                self._remember(sandbox_id, conn_id)
                return found
        return None

    # -- all of them

    async def _of_all(self, ask: Callable[[ModalGateway], Awaitable[T]]) -> dict[str | None, T | GatewayError]:
        """Ask all at the same time; an account's ``GatewayError`` stands for its answer."""

        async def one(account: ModalGateway) -> T | GatewayError:
            try:
                return await ask(account)
            except GatewayError as error:
                return error

        answers = await asyncio.gather(*map(one, self._accounts.values()))
        return dict(zip(self._accounts, answers, strict=True))

    def _heard(self, answers: Mapping[str | None, T | GatewayError], *, some: bool = False) -> list[tuple[str | None, T]]:
        """Return the answers that came. Raises an error if there is one and no answer says anything; with ``some``, if none came.

        An answer that says nothing (``None``, no sandboxes) is no proof while another account has not answered.
        """
        heard, failed = [], []
        for conn_id, answer in answers.items():
            if isinstance(answer, GatewayError):
                failed.append(answer)
                self._complain(conn_id, answer)
            else:
                heard.append((conn_id, answer))
                self._complaints.pop(conn_id, None)
        if failed and not (heard if some else any(answer for _, answer in heard)):
            raise failed[0]
        return heard

    def _complain(self, conn_id: str | None, error: GatewayError) -> None:
        """Log once in a row what one account cannot do."""
        if self._complaints.get(conn_id) != str(error):
            log.warning("modalflow: the account of %s: %s", repr(conn_id) if conn_id else "the deployment", error)
        self._complaints[conn_id] = str(error)

    def _all(self, lists: Sequence[tuple[str | None, list[SandboxStatus]]]) -> list[SandboxStatus]:
        """Return what all have, each sandbox once: two connections may be of one workspace."""
        found: dict[str, SandboxStatus] = {}
        for conn_id, statuses in lists:
            for status in statuses:
                if status.sandbox_id not in found:
                    found[status.sandbox_id] = status
                    self._remember(status.sandbox_id, conn_id)
        return list(found.values())
