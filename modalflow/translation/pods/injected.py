"""Annotations for which a cluster's webhooks put something into a pod: secrets, an identity, networks. In a sandbox nobody does.

Flows in, from ``pods.fields``: a pod's annotations. Flows out: a warning of what the task will not find. Sources: the
documentation of Vault's agent injector, Bank-Vaults, kube2iam, kiam and Multus, 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping

from modalflow.translation.report import Place

_INSTEAD = 'give the task a Modal Secret: write {"modal": {"secrets": [NAME]}}'
_KEYS = 'give the task a Modal Secret with keys, or write {"modal": {"oidc": True}} and let the cloud role trust Modal'
_ROLE = ("a sandbox has no identity of a cluster's: cloud calls made by it are refused", _KEYS)
_BANK_VAULTS = ("variables that begin with vault: stay as they are, since nobody puts secrets into them", _INSTEAD)

INJECTED: Mapping[str, tuple[str, str]] = {
    "vault.hashicorp.com/agent-inject": ("Vault's agent does not run: nobody writes secrets under /vault/secrets", _INSTEAD),
    "vault.security.banzaicloud.io/vault-addr": _BANK_VAULTS,
    "vault.security.banzaicloud.io/vault-role": _BANK_VAULTS,
    "iam.amazonaws.com/role": _ROLE,
    "k8s.v1.cni.cncf.io/networks": ("a sandbox joins no further networks of a cluster's", "remove it"),
}
"""What is missing, and what to write instead."""
_OFF = frozenset({"false", "disabled", "no", "off", ""})


def report_injected(name: str, value: object, place: Place) -> None:
    """Warn of what a webhook would have put into the pod, unless the annotation switches that off."""
    if not isinstance(value, str) or value.lower() in _OFF:
        return
    reason, hint = INJECTED[name]
    place.warn("dropped", f"is not honoured: {reason}", hint)
