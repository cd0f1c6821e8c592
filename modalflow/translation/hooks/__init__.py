"""The site's own functions that may change a task before it is launched."""
