"""A pod as Kubernetes writes it, read into settings: every field has a meaning here, or is reported."""
