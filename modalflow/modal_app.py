"""What ``modal deploy modalflow.modal_app`` of modalflow 0.3.1 loads: there is nothing to deploy any more, and this says so."""

from __future__ import annotations

raise ImportError(
    "modalflow deploys nothing any more: its App, image and Volumes are made when the first task needs them. "
    "docs/coming-from-modalflow-0.3.md has what to write instead of each flag and variable; `modalflow deploy` says it for yours"
)
