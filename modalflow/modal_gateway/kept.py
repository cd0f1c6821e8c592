"""Modal objects that are made once and used by every launch: App, images, Secrets, Volumes.

An object that was looked up costs no further call; each kind of object is loaded by one caller at a time. ``forget`` drops them
all: the server may have been reset, or somebody deleted and made a Secret again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from modal import App, Client, CloudBucketMount, Image, Secret, Volume
from modal import exception as modal_errors

from modalflow.modal_gateway.images import describe_image
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import MODALFLOWS, Bucket, Home, ImagePlan, SecretPlan, VolumePlan

T = TypeVar("T", App, Image, Secret, Volume)


CODE_GONE = "the DAGs' code went with it and is brought again within a minute: clear the task"


@contextmanager
def _told(hint: str) -> Iterator[None]:
    """Say with ``hint`` what to do about an object that does not exist."""
    try:
        yield
    except modal_errors.NotFoundError as error:
        raise modal_errors.NotFoundError(f"{error}; {hint}") from error


def _in(home: Home) -> str:
    return f" --env {home.environment}" if home.environment else ""


class KeptObjects:
    """Loads on first need, and keeps. Used on one loop."""

    def __init__(self, client: Client, settings: LaunchSettings) -> None:
        """Load with ``client`` in the App and environment of ``settings``."""
        self.client = client
        self._settings = settings
        self._kept: dict[Hashable, App | Image | Secret | Volume] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}

    def forget(self) -> None:
        """Drop everything; the next use looks it up again."""
        self._kept.clear()

    def at_home(self, home: Home) -> Home:
        """Return the environment and App, those of the settings where ``home`` names none."""
        return Home(environment=home.environment or self._settings.environment, app=home.app or self._settings.app_name)

    async def app(self, home: Home = MODALFLOWS) -> App:
        """The App that the sandboxes of ``home`` belong to, created if missing."""
        at = self.at_home(home)

        async def load() -> App:
            with _told(f"create it with `modal environment create {at.environment}`, or correct [modal_executor] namespaces"):
                return await App.lookup.aio(
                    at.app or "", client=self.client, environment_name=at.environment, create_if_missing=True
                )

        return await self._keep(("app", at), load, App)

    async def image(self, plan: ImagePlan, home: Home = MODALFLOWS, *, anew: bool = False) -> Image:
        """The image, built if nobody built it before, or ``anew``. May take minutes the first time."""
        environment = self.at_home(home).environment

        async def load() -> Image:
            image = describe_image(plan, environment)
            await image.build.aio(await self.app(home))
            return image

        if anew:
            image = self._kept[("image", plan, environment)] = await load()
            return image
        return await self._keep(("image", plan, environment), load, Image)

    async def secrets(self, plans: Iterable[SecretPlan], home: Home = MODALFLOWS) -> list[Secret]:
        """The named Secrets in order, without optional ones that do not exist."""
        found = []
        for plan in plans:
            try:
                found.append(await self.secret(plan, home))
            except modal_errors.NotFoundError:
                if not plan.optional:
                    raise
        return found

    async def secret(self, plan: SecretPlan, home: Home = MODALFLOWS) -> Secret:
        """A named Secret; ``modal.exception.NotFoundError`` if it, or a key it must have, does not exist."""
        environment = self.at_home(home).environment

        async def load() -> Secret:
            secret = Secret.from_name(plan.name, environment_name=environment, required_keys=list(plan.required_keys))
            with _told(f"create it with `modal secret create {plan.name} KEY=VALUE{_in(home)}`, or correct the name"):
                await secret.hydrate.aio(self.client)
            return secret

        return await self._keep(("secret", plan, environment), load, Secret)

    async def volume(self, plan: VolumePlan, home: Home = MODALFLOWS) -> Volume:
        """A named Volume with the mount options of ``plan``; the lookup is shared by all mounts of that Volume."""
        bare = await self.whole_volume(
            plan.name,
            version=plan.version,
            create_if_missing=plan.create_if_missing,
            home=MODALFLOWS if plan.is_ours else home,
            hint=CODE_GONE if plan.code_of is not None else None,
        )
        if not plan.read_only and plan.sub_path is None:
            return bare
        return bare.with_mount_options(read_only=plan.read_only, sub_path=plan.sub_path)

    async def bucket(self, plan: Bucket, home: Home = MODALFLOWS) -> CloudBucketMount:
        """A bucket to be mounted, opened with a Secret that has the keys it takes."""
        return CloudBucketMount(
            plan.name,
            bucket_endpoint_url=plan.endpoint,
            key_prefix=plan.prefix,
            secret=None if plan.secret is None else await self.secret(plan.secret, home),
            oidc_auth_role_arn=plan.role_arn,
            read_only=plan.read_only,
            requester_pays=plan.requester_pays,
            force_path_style=plan.path_style,
        )

    async def whole_volume(
        self, name: str, *, version: int | None, create_if_missing: bool, home: Home = MODALFLOWS, hint: str | None = None
    ) -> Volume:
        """A named Volume without mount options. ``hint`` says what to do if it does not exist."""
        environment = self.at_home(home).environment
        remedy = hint or f"create it with `modal volume create {name}{_in(home)}`, or correct the name"

        async def load() -> Volume:
            volume = Volume.from_name(name, environment_name=environment, create_if_missing=create_if_missing, version=version)
            with _told(remedy):
                await volume.hydrate.aio(self.client)
            return volume

        return await self._keep(("volume", name, environment), load, Volume)

    async def _keep(self, key: Hashable, load: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        kept = self._kept.get(key)
        if isinstance(kept, kind):
            return kept
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if isinstance(kept, kind):
                return kept
            loaded = await load()
            self._kept[key] = loaded
            return loaded
