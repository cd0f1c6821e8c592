"""What becomes of a pod's extended resources, the devices that plugins of a cluster give: the table, and how it is read.

Flows in, from ``pods.resources``: a name that is neither cpu, memory, storage nor a GPU of NVIDIA's, and its quantity. Flows out:
a finding. Names: the device plugins' documentation and public manifests, 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modalflow.translation.report import Place

_MODEL = 'write {"modal": {"gpu": MODEL}}'
_WHOLE = 'write e.g. {"modal": {"gpu": {"memory": ">=24Gi"}}}'
_REMOVE = "remove it"


@dataclass(frozen=True, slots=True)
class Device:
    """``reason`` says what the device is. ``accelerator``: a ``gpu`` key stands above it, since it is what a GPU is for."""

    reason: str
    hint: str = _REMOVE
    accelerator: bool = False


def _other_gpu(kind: str) -> Device:
    return Device(f"{kind}; Modal has NVIDIA GPUs only", _MODEL, accelerator=True)


_SHARE = Device("a part of a GPU; Modal rents whole ones", _WHOLE, accelerator=True)
_NETWORK = Device("a network device between machines; a sandbox is one machine")
_FPGA = Device("an FPGA; Modal has none")
_FUSE = Device("a device of the node", "remove it: a sandbox has no devices of its node")

DEVICES: Mapping[str, Device] = {
    # Parts of NVIDIA's GPUs: HAMi, Volcano, Alibaba, Tencent, Koordinator, AWS, Run:ai, Baidu.
    "nvidia.com/gpumem": _SHARE,
    "nvidia.com/gpucores": _SHARE,
    "nvidia.com/vgpu": _SHARE,
    "nvidia.com/priority": _SHARE,
    "nvidia.com/mps": _SHARE,
    "volcano.sh/vgpu-": _SHARE,
    "volcano.sh/gpu-": _SHARE,
    "aliyun.com/gpu-": _SHARE,
    "alibabacloud.com/gpu-": _SHARE,
    "tencent.com/vcuda-": _SHARE,
    "tke.cloud.tencent.com/qgpu-": _SHARE,
    "koordinator.sh/gpu": _SHARE,
    "k8s.amazonaws.com/vgpu": _SHARE,
    "run.ai/": _SHARE,
    "4pd.io/": _SHARE,
    "baidu.com/": _SHARE,
    "nos.nebuly.com/": _SHARE,
    # Other makers
    "amd.com/gpu": _other_gpu("an AMD GPU"),
    "amd.com/": _other_gpu("an AMD device"),
    "gpu.intel.com/": _other_gpu("an Intel GPU"),
    "google.com/tpu": _other_gpu("a TPU"),
    "cloud-tpus.google.com/": _other_gpu("a TPU"),
    "aws.amazon.com/neuron": _other_gpu("an AWS Neuron device"),
    "habana.ai/": _other_gpu("a Gaudi accelerator"),
    "qualcomm.com/": _other_gpu("a Qualcomm accelerator"),
    "huawei.com/": _other_gpu("a Huawei Ascend accelerator"),
    "cambricon.com/": _other_gpu("a Cambricon accelerator"),
    "hygon.com/": _other_gpu("a Hygon accelerator"),
    "iluvatar.": _other_gpu("an Iluvatar GPU"),
    "metax-tech.com/": _other_gpu("a MetaX GPU"),
    "mthreads.com/": _other_gpu("a Moore Threads GPU"),
    "enflame.com/": _other_gpu("an Enflame accelerator"),
    "kunlunxin.com/": _other_gpu("a Kunlunxin accelerator"),
    "rebellions.ai/": _other_gpu("a Rebellions accelerator"),
    "furiosa.ai/": _other_gpu("a Furiosa accelerator"),
    "tenstorrent.com/": _other_gpu("a Tenstorrent accelerator"),
    "graphcore.ai/": _other_gpu("a Graphcore IPU"),
    "cerebras.net/": _other_gpu("a Cerebras system"),
    # Not accelerators
    "hugepages-": Device("a sandbox has no huge pages"),
    "rdma/": _NETWORK,
    "nvidia.com/hostdev": _NETWORK,
    "nvidia.com/rdma": _NETWORK,
    "nvidia.com/sriov": _NETWORK,
    "nvidia.com/ib": _NETWORK,
    "vpc.amazonaws.com/": _NETWORK,
    "mellanox.com/": _NETWORK,
    "openshift.io/": _NETWORK,
    "intel.com/sriov": _NETWORK,
    "intel.com/intel_sriov": _NETWORK,
    "networking.gke.io": _NETWORK,
    "xilinx.com/": _FPGA,
    "amd.com/xilinx": _FPGA,
    "fpga.intel.com/": _FPGA,
    "intel.com/fpga": _FPGA,
    "qat.intel.com/": Device("an Intel QAT device; Modal has none"),
    "sgx.intel.com/": Device("an Intel SGX enclave; Modal has none"),
    "smarter-devices/": _FUSE,
    "squat.ai/": _FUSE,
    "github.com/fuse": _FUSE,
    "devices.kubevirt.io/": _FUSE,
    "nvidia.com/": Device("a cluster's own name for a device; no GPU of that name is known", _MODEL, accelerator=True),
    "alpha.kubernetes.io/nvidia-gpu": Device("the name of GPUs before Kubernetes 1.8", 'write limits["nvidia.com/gpu"]'),
}
"""By the beginning of the name; the longest that fits counts."""
OTHER_DEVICE = Device("Modal has no such device")
_ORDERED = sorted(DEVICES, key=len, reverse=True)


def report_device(name: object, place: Place) -> bool:
    """Refuse one device. Returns whether it was asked for in place of a GPU."""
    known = next((prefix for prefix in _ORDERED if isinstance(name, str) and name.startswith(prefix)), None)
    device = OTHER_DEVICE if known is None else DEVICES[known]
    place.error("gpu-not-on-modal" if device.accelerator else "refused-field", device.reason, device.hint)
    return device.accelerator


ANNOTATIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("gpu-fraction", "gpu-memory", "gpu-fraction-num-devices", "runai/gpu-fraction", "runai/gpu-memory"),
        "asks for a part of a GPU (Run:ai, KAI); Modal rents whole ones",
    ),
    **dict.fromkeys(
        ("nvidia.com/use-gputype", "nvidia.com/nouse-gputype"),
        "chooses among the GPUs of a cluster (HAMi), in which the task does not run",
    ),
    "k8s.aliyun.com/eci-use-specs": "chooses a machine of Alibaba's, on which the task does not run",
}
"""Annotations that ask the scheduler of a cluster for a GPU, and what they do."""


def report_annotation(name: str, place: Place) -> None:
    """Refuse an annotation for which a cluster would have given the task a GPU, or another one."""
    place.error("gpu-not-on-modal", ANNOTATIONS[name], f"remove it, and {_MODEL}")
