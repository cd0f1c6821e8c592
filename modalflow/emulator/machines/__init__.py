"""The emulator's behaviour: sandboxes as processes and folders of this machine.

Flows in: sandboxes that the control plane has checked. Flows out: their processes, output, mounts and ends. ``sandboxes`` is the
module to begin with; nothing here knows the wire.
"""
