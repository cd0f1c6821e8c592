"""The emulator's state and the rules that hold inside it: no processes, no sandboxes' files, no wire.

Flows in: what services and machines decide. Flows out: the objects that they answer from. ``store`` is the module to begin with.
"""
