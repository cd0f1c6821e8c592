"""The only part of modalflow that talks to Modal: launch plans in, calls of the real client out.

``gateway`` implements ``launch.gateway.Gateway``; ``errors`` is the one table of Modal's exceptions; ``logs`` reads task logs.
Importing the package loads nothing of Modal's; asking for ``ModalGateway`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modalflow.modal_gateway.gateway import ModalGateway

__all__ = ["ModalGateway"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from modalflow.modal_gateway.gateway import ModalGateway  # noqa: PLC0415

    return ModalGateway
