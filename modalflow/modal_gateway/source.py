"""A ``SandboxPlan`` as Python source that asks Modal for the same: a file that runs as it is, without modalflow.

In: a plan, and the App. Out: text, for ``modalflow explain --python``. Arguments come from ``parameters`` and ``image_calls``, as
the gateway's do; a test runs the text on the emulator and compares what arrives with what the gateway sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modalflow.modal_gateway.image_calls import image_calls
from modalflow.modal_gateway.parameters import sandbox_kwargs
from modalflow.translation.functions.plan import candidates_in_words
from modalflow.translation.plan import Bucket, ImagePlan, SandboxPlan, SecretPlan, VolumePlan

WIDEST = 110
"""Columns of a call that stays on one line."""
COMMAND = ("sleep", "60")
"""Stands for modalflow's bootstrap, whose source is long and which waits for a workload."""


def python_source(
    plan: SandboxPlan, *, app_name: str, environment: str | None = None, name: str | None = None, argv: Sequence[str] = COMMAND
) -> str:
    """Return the source for the first GPU candidate; the others are named in a comment. ``name`` is the sandbox's, if any."""
    own = environment
    app_name, environment = plan.home.app or app_name, plan.home.environment or environment
    gpu = plan.gpu_candidates[0] if plan.gpu_candidates else None
    lines = ["import modal", ""]
    if plan.home.conn_id is not None:
        lines.append(f"# With the token of the Airflow connection {plan.home.conn_id!r}.")
    lines.append(_call("app = modal.App.lookup", _given(app_name, environment_name=environment, create_if_missing=True)))
    lines.append(f"image = {_image(plan.image, environment)}")
    if argv is COMMAND:
        lines.append(f"# In the place of {COMMAND[0]}, modalflow runs its bootstrap, which gets the workload by {plan.handover}.")
    if len(plan.gpu_candidates) > 1:
        others = ", then ".join(candidates_in_words(plan)[1:])
        lines.append(f"# Without capacity: {others}; all candidates together wait {plan.gpu_wait:g} s.")
    optional = [secret.name for secret in plan.secrets if secret.optional]
    if optional:
        lines.append(f"# Left out where they do not exist: {', '.join(map(repr, optional))}.")
    lines.append(_call("sb = modal.Sandbox.create", list(_sandbox(plan, gpu, environment, own, name, argv))))
    lines.append("print(sb.object_id)")
    return "\n".join(lines) + "\n"


def _sandbox(
    plan: SandboxPlan, gpu: str | None, environment: str | None, own: str | None, name: str | None, argv: Sequence[str]
) -> Iterator[str]:
    """Yield the arguments; ``own`` is the environment of modalflow's own Volumes."""
    yield from (repr(word) for word in argv)
    yield "app=app"
    yield "image=image"
    if plan.secrets:
        yield f"secrets=[{', '.join(_secret(secret, environment) for secret in plan.secrets)}]"
    mounts = [f"{volume.mount_path!r}: {_volume(volume, own if volume.is_ours else environment)}" for volume in plan.volumes]
    mounts += [f"{mounted.mount_path!r}: {_bucket(mounted.bucket, environment)}" for mounted in plan.buckets]
    if mounts:
        yield f"volumes={{{', '.join(mounts)}}}"
    plain: Mapping[str, object] = sandbox_kwargs(plan, gpu, name=name or "")
    for key, value in plain.items():
        if key != "name" or name:
            yield f"{key}={value!r}"


def _image(plan: ImagePlan, environment: str | None) -> str:
    text = "modal.Image"
    for call in image_calls(plan):
        given = [repr(argument) for argument in call.arguments]
        given += [f"{key}={value!r}" for key, value in call.options.items()]
        if call.secret is not None:
            given.append(f"{call.secret_keyword}={_named('modal.Secret', call.secret, environment_name=environment)}")
        if call.secrets:
            named = ", ".join(_named("modal.Secret", name, environment_name=environment) for name in call.secrets)
            given.append(f"secrets=[{named}]")
        if call.force_build:
            given.append("force_build=True")
        text = _call(f"{text}.{call.method}", given)
    return text


def _secret(plan: SecretPlan, environment: str | None) -> str:
    return _named("modal.Secret", plan.name, environment_name=environment, required_keys=list(plan.required_keys) or None)


def _volume(plan: VolumePlan, environment: str | None) -> str:
    text = _named(
        "modal.Volume",
        plan.name,
        environment_name=environment,
        create_if_missing=plan.create_if_missing or None,
        version=plan.version,
    )
    if not plan.read_only and plan.sub_path is None:
        return text
    return f"{text}.with_mount_options(read_only={plan.read_only!r}, sub_path={plan.sub_path!r})"


def _bucket(plan: Bucket, environment: str | None) -> str:
    given = _given(
        plan.name,
        bucket_endpoint_url=plan.endpoint,
        key_prefix=plan.prefix,
        oidc_auth_role_arn=plan.role_arn,
        read_only=plan.read_only or None,
        requester_pays=plan.requester_pays or None,
        force_path_style=plan.path_style or None,
    )
    if plan.secret is not None:
        given.append(f"secret={_secret(plan.secret, environment)}")
    return f"modal.CloudBucketMount({', '.join(given)})"


def _named(kind: str, name: str, **options: object) -> str:
    return f"{kind}.from_name({', '.join(_given(name, **options))})"


def _given(*arguments: object, **options: object) -> list[str]:
    """Spell arguments; an option that is ``None`` is left out, as ``None`` is the default of all of them."""
    return [*map(repr, arguments), *(f"{key}={value!r}" for key, value in options.items() if value is not None)]


def _call(function: str, arguments: Sequence[str]) -> str:
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= WIDEST or not arguments:
        return line
    return f"{function}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"
