"""GPUs: what Modal has, how people and clouds name it, and which one a task gets."""
