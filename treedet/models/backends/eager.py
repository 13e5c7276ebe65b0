"""PyTorch as it is: folded normalisation, channels_last, bf16 where the hardware has it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from treedet.errors import BackendUnavailableError
from treedet.models.backends.base import Pixels
from treedet.models.build import fold_normalisation
from treedet.models.trunk import Trunk, TrunkOutput

Precision = Literal["auto", "fp32", "bf16"]


class EagerBackend:
    """Runs a trunk with PyTorch.

    Args:
        trunk: Weights; copied, so that the original can go on training.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto`` takes bf16 where the device computes it natively.

    Raises:
        BackendUnavailableError: The device is not there.
    """

    def __init__(self, trunk: Trunk, *, device: str = "auto", precision: Precision = "auto") -> None:
        self._device = resolve_device(device)
        self._precision = resolve_precision(precision, self._device)
        network = copy.deepcopy(trunk).eval()
        fold_normalisation(network)
        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
        network = network.to(device=self._device, dtype=dtype)
        # Normalising bytes keeps single precision whatever the convolutions use.
        network.mean, network.std = network.mean.float(), network.std.float()
        self._network: Trunk = network.to(memory_format=torch.channels_last)

    @property
    def device(self) -> str:
        """Kind of device it runs on."""
        return self._device.type

    @property
    def precision(self) -> str:
        """``fp32`` or ``bf16``."""
        return self._precision

    def trunk(self, pixels: Pixels) -> TrunkOutput:
        """Run a batch ``[B, C, H, W]``; see :class:`treedet.models.backends.base.Backend`."""
        with torch.inference_mode():
            out: TrunkOutput = self._network(torch.from_numpy(pixels).to(self._device))
            return out

    def attributes(
        self, out: TrunkOutput, boxes: Sequence[Tensor], *, size: tuple[int, int], alone: bool = False
    ) -> Mapping[str, Tensor]:
        """Return the logits of each attribute; see :class:`treedet.models.backends.base.Backend`."""
        with torch.inference_mode():
            context = torch.zeros(sum(map(len, boxes)), dtype=torch.bool, device=self._device) if alone else None
            return self._network.say(out.body, boxes, size=size, context=context)


def resolve_device(wanted: str) -> torch.device:
    """Return the device a name means; ``auto`` is a GPU where there is one.

    Raises:
        BackendUnavailableError: The name is unknown or the device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if there[kind]), "cpu"))
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or not there.get(device.type, False):
        found = ", ".join(kind for kind, yes in there.items() if yes)
        raise BackendUnavailableError(
            f"device {wanted!r} is not available here; found {found}; accepted is also 'auto'"
        )
    return device


def resolve_precision(wanted: Precision, device: torch.device) -> str:
    """Return ``bf16`` or ``fp32``; ``auto`` is bf16 where the device computes it natively.

    >>> resolve_precision("fp32", torch.device("cpu"))
    'fp32'
    """
    if wanted not in ("auto", "fp32", "bf16"):
        raise BackendUnavailableError(f"precision {wanted!r} is unknown; accepted are auto, fp32, bf16")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # There is no public question for this; without the probe fp32 is the safe answer.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    native = device.type == "cpu" and any(probe() for probe in probes if probe is not None)
    return "bf16" if native else "fp32"
