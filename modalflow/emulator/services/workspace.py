"""The workspace that a token stands for: its names, its one member, its settings, what it would cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.environments import check_builder_version, find_environment
from modalflow.emulator.state.prices import RATES, formatted
from modalflow.emulator.wire import Call, Service, fail, partial, streaming, unary

LABEL = "emulator"
_NOTHING_BILLED: tuple[api_pb2.WorkspaceBillingReportItem, ...] = ()


class Workspaces(Service):
    """Workspace*, TokenInfoGet, TokensList, EnvironmentBillingSummary."""

    @unary
    async def WorkspaceNameLookup(self, _request: Empty, call: Call) -> api_pb2.WorkspaceNameLookupResponse:
        """Tell the workspace's name, which is its token's id."""
        return api_pb2.WorkspaceNameLookupResponse(workspace_name=call.workspace.name, username=call.workspace.name)

    @unary
    async def TokenInfoGet(self, _request: api_pb2.TokenInfoGetRequest, call: Call) -> api_pb2.TokenInfoGetResponse:
        """Tell whose token this is; it has no end."""
        workspace = call.workspace
        return api_pb2.TokenInfoGetResponse(
            token_id=workspace.name,
            workspace_id=workspace.workspace_id,
            workspace_name=workspace.name,
            user_identity=api_pb2.UserIdentity(user_id=workspace.user_id, username=workspace.username),
            created_at=Timestamp(seconds=int(workspace.created_at)),
            token_name=LABEL,
        )

    @unary
    async def TokensList(self, _request: Empty, call: Call) -> api_pb2.TokensListResponse:
        """List the workspace's one token."""
        workspace = call.workspace
        return api_pb2.TokensListResponse(
            tokens=[
                api_pb2.TokensListResponse.Token(
                    token_id=workspace.name,
                    created_at=workspace.created_at,
                    workspace_id=workspace.workspace_id,
                    user_id=workspace.user_id,
                    member_displayname=workspace.username,
                    name=LABEL,
                )
            ]
        )

    @unary
    async def WorkspaceMembersList(self, _request: Empty, call: Call) -> api_pb2.WorkspaceMembersListResponse:
        """List the workspace's one member, its owner."""
        workspace = call.workspace
        return api_pb2.WorkspaceMembersListResponse(
            members=[
                api_pb2.WorkspaceMembersListItem(
                    member_id=workspace.user_id,
                    member_displayname=workspace.username,
                    member_role=api_pb2.MEMBER_ROLE_OWNER,
                    joined_at=workspace.created_at,
                    user_id=workspace.user_id,
                    email=f"{workspace.username}@localhost",
                )
            ]
        )

    @unary
    async def WorkspaceDashboardUrlGet(
        self, _request: api_pb2.WorkspaceDashboardUrlRequest, _call: Call
    ) -> api_pb2.WorkspaceDashboardUrlResponse:
        """Refuse: there is no dashboard to open."""
        fail(Status.UNIMPLEMENTED, "WorkspaceDashboardUrlGet: the modalflow emulator has no dashboard; use `modal app list`")

    # -- settings

    @unary
    async def WorkspaceSettings(self, _request: Empty, call: Call) -> api_pb2.WorkspaceSettingsResponse:
        """Tell the default environment and the image builder version."""
        settings = call.workspace.settings
        return api_pb2.WorkspaceSettingsResponse(
            default_environment_name=settings.default_environment, image_builder_version=settings.image_builder_version
        )

    @unary
    async def WorkspaceSetDefaultEnvironment(self, request: api_pb2.WorkspaceSetDefaultEnvironmentRequest, call: Call) -> Empty:
        """Choose the environment of calls that name none."""
        if not request.environment_name:
            fail(Status.INVALID_ARGUMENT, "default-environment: write the name of an environment")
        call.workspace.settings.default_environment = call.environment(request.environment_name)
        self.core.state_changed(call.workspace, call.workspace.settings, *call.workspace.environments.values())
        return Empty()

    @unary
    async def WorkspaceSetImageBuilderVersion(
        self, request: api_pb2.WorkspaceSetImageBuilderVersionRequest, call: Call
    ) -> api_pb2.WorkspaceSetImageBuilderVersionResponse:
        """Choose the image builder version of environments that have none of their own."""
        check_builder_version(request.new_image_builder_version)
        call.workspace.settings.image_builder_version = request.new_image_builder_version
        self.core.state_changed(call.workspace, call.workspace.settings, *call.workspace.environments.values())
        return api_pb2.WorkspaceSetImageBuilderVersionResponse()

    # -- money

    @partial("the names of Modal's own keys are not published; these are its public prices for sandboxes, by resource")
    @unary
    async def WorkspaceBillingRates(
        self, _request: api_pb2.WorkspaceBillingRatesRequest, _call: Call
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        """Tell prices: a table with a date, in US dollars a second."""
        return api_pb2.WorkspaceBillingRatesResponse(
            rates={name: format(rate, "f") for name, rate in RATES.items()}, formatted=formatted()
        )

    @streaming
    async def WorkspaceBillingReport(
        self, request: api_pb2.WorkspaceBillingReportRequest, call: Call
    ) -> AsyncIterator[api_pb2.WorkspaceBillingReportItem]:
        """Report no costs: nothing is billed here."""
        for environment_id in request.environment_ids:
            find_environment(call.workspace, environment_id)
        for item in _NOTHING_BILLED:
            yield item

    @unary
    async def WorkspaceBillingSummary(
        self, request: api_pb2.WorkspaceBillingSummaryRequest, _call: Call
    ) -> api_pb2.WorkspaceBillingSummaryResponse:
        """Summarise a month: nothing was billed."""
        start, end = _month(request.start_timestamp)
        return api_pb2.WorkspaceBillingSummaryResponse(
            start_timestamp=start, end_timestamp=end, metered_cost="0", billed_cost="0"
        )

    @unary
    async def EnvironmentBillingSummary(
        self, request: api_pb2.EnvironmentBillingSummaryRequest, call: Call
    ) -> api_pb2.EnvironmentBillingSummaryResponse:
        """Summarise an environment's month: nothing was billed."""
        find_environment(call.workspace, request.environment_id)
        start, end = _month(request.start_timestamp)
        return api_pb2.EnvironmentBillingSummaryResponse(start_timestamp=start, end_timestamp=end, metered_cost="0")


def _month(start: Timestamp) -> tuple[Timestamp, Timestamp]:
    """Return the month that begins at ``start``: its beginning and its end."""
    first = start.ToDatetime(UTC)
    following = datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=UTC)
    end = Timestamp()
    end.FromDatetime(following)
    return start, end
