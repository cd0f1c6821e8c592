"""The way from a task's sandbox to an execution API that no sandbox can reach: a sandbox between, a filter before the API.

``station`` runs in the relay's sandbox; everything else runs beside the executor, on a loop of its own. Flows in: connections of
task sandboxes, by way of the relay. Flows out: requests to the execution API, and nothing else. ``service`` keeps it going,
``policy`` decides, ``attach`` holds the connection, ``gate`` and ``filter`` say what comes through. docs/explanation/relay.md.
"""
