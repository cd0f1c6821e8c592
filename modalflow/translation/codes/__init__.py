"""Every diagnostic code with its meaning, its mend and an input that gives it."""
