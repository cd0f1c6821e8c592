"""Codes of what a task becomes, a sandbox or a call of a deployed Function, and of hooks. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, Example, modal

_RUNNER = {"functions": '{"default": {"app": "modalflow", "function": "Runner.run"}}'}

ROWS: tuple[Code, ...] = (
    Code(
        "not-on-function",
        "error or warning",
        "A Function cannot give this",
        "The task is to be a call of a deployed Function, and asks for something that is fixed when a Function is deployed.",
        "`with_options` chooses GPU, CPU, memory, Secrets, Volumes, region and timeout of a call; the image, the disk, the "
        "ENTRYPOINT and the working directory are the deployment's, and the next task finds what one changes in a container.",
        "Deploy a Function that has it and add it to `[modal_executor] functions`, or let the task be a sandbox.",
        modal(_RUNNER, backend="function", image="ghcr.io/me/train:1.2"),
    ),
    Code(
        "sandbox-chosen",
        "notice",
        "`auto` chose a sandbox",
        "With `backend: auto` the task could have been a call of a Function; the text names what decided against it.",
        "A Function is taken only where it loses nothing.",
        "Nothing needs to be done. Remove what is named if a warm container is worth more.",
        modal(_RUNNER, backend="auto", workdir="/workspace"),
    ),
    Code(
        "function-not-callable",
        "error",
        "Functions are not called yet",
        "The task is to be a call of a deployed Function.",
        "This version plans such calls, for `modalflow translate` and `airflow modal explain`, and does not make them.",
        "Write `sandbox` or `auto`, or leave `backend` out.",
        Example(
            told="error: executor_config: planned as a function, and this version runs sandboxes only; "
            'write {"modal": {"backend": "sandbox"}}, or leave backend out'
        ),
    ),
    Code(
        "raised-to-class",
        "notice",
        "Rounded up to a shared size",
        "Cores or memory of a call are brought to the next of a few sizes.",
        "Modal keeps a pool of containers for each set of options, and a new pool starts cold: few sizes keep pools warm.",
        "Nothing needs to be done; write the size that the text names to pay for exactly what is written.",
        modal(_RUNNER, backend="function", cpu=5),
    ),
    Code(
        "bad-disk",
        "error",
        "No such disk",
        "`disk` is neither MiB nor a quantity with a unit, or more than any machine has.",
        "A bare number in text means bytes in Kubernetes and MiB here, so it needs a unit.",
        'Write MiB as an int, or text such as "1Ti".',
        modal(disk="100"),
    ),
    Code(
        "hook-failed",
        "error",
        "A hook raised an exception",
        "`modal_task_mutation_hook` or `pod_mutation_hook` of `airflow_local_settings` raised an exception for this task.",
        "A task that a hook was to change must not run unchanged. Only the task fails; the scheduler goes on.",
        "Mend the hook; the scheduler's log has the traceback.",
        Example(
            told="error: airflow_local_settings.modal_task_mutation_hook: raised ValueError: no budget; "
            "the scheduler's log has the traceback"
        ),
    ),
    Code(
        "bad-hook-result",
        "error",
        "A hook returned something else",
        "`modal_task_mutation_hook` returned no `TaskSpec`, or changed a field in a way that it cannot be changed.",
        "A hook's result is read like anything that a user writes.",
        "Return `dataclasses.replace(spec, ...)`, or `None` for no change.",
        Example(
            told="error: airflow_local_settings.modal_task_mutation_hook: expected a TaskSpec, or None for no change, got a "
            "dict; write return dataclasses.replace(spec, ...)"
        ),
    ),
    Code(
        "removed-by-hook",
        "notice",
        "A hook removed this",
        "`pod_mutation_hook` took a part of the pod away.",
        "Nothing is dropped without a word, also where the site's own hook does it.",
        "Nothing needs to be done.",
        Example(told="notice: pod_override.spec.hostNetwork: removed by pod_mutation_hook"),
    ),
)
