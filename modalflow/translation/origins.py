"""Where a value came from: the provenance that every layer, diagnostic and explanation carries.

Flows in with each ``Layer``; flows out in ``Translation.origins`` and in every ``Diagnostic``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One place that a user (or we) wrote a value at.

    ``layer`` is the name people know it by (``built-in defaults``, ``[modal_executor]``, ``template gpu-training``,
    ``pod_override``, ``executor_config["modal"]``); ``path`` is the address inside it, in the user's own spelling
    (``executor_config["modal"]["gpu"]``, ``pod_override.spec.containers[0].image``, ``[modal_executor] default_gpu``);
    ``file`` and ``line`` are set for YAML templates.
    """

    layer: str
    path: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Render as ``path (file:line)`` where a file is known, else as the path alone."""
        if self.file is None:
            return self.path
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{self.path} ({place})"
