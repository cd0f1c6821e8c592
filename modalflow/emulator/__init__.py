"""The embedded Modal: a control plane that the unmodified modal client talks to. Knows nothing of modalflow's other rooms."""
