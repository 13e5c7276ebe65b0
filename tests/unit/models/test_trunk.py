import pytest
import torch
import torchvision
from factories import tiny_spec

from treedet.core.spec import ModelSpec
from treedet.errors import BackendUnavailableError, ConfigError, SpecMismatchError
from treedet.models.anchors import anchor_boxes
from treedet.models.backends.eager import EagerBackend, resolve_device, resolve_precision
from treedet.models.build import build, fold_normalisation, weights_of
from treedet.models.trunk import PRIOR, Trunk

SIDE = 64


def window(batch: int = 1, bands: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, bands, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def test_outputs_have_one_row_per_anchor() -> None:
    spec = tiny_spec()
    with torch.no_grad():
        out = Trunk(spec).eval()(window(2))
    anchors = anchor_boxes(spec, SIDE, SIDE)
    assert out.logits.shape == (2, len(anchors), 1)
    assert out.deltas.shape == (2, len(anchors), 4)
    assert len(out.pyramid) == len(spec.levels), "no level is added unasked"


def test_an_untrained_network_gives_every_anchor_about_the_prior() -> None:
    with torch.no_grad():
        scores = Trunk(tiny_spec()).eval()(window()).logits.sigmoid()
    assert scores.mean().item() == pytest.approx(PRIOR, rel=0.5)


def test_parameter_names_equal_those_of_torchvision() -> None:
    theirs = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=1
    ).state_dict()
    spec = ModelSpec(
        backbone="resnet50",
        levels=(3, 4, 5, 6, 7),
        fpn_channels=256,
        head_convs=4,
        pyramid_norm=False,
        anchor_sizes_m=tuple((s, s * 1.26, s * 1.59) for s in (3.2, 6.4, 12.8, 25.6, 51.2)),
        anchor_ratios=(0.5, 1.0, 2.0),
    )
    with torch.device("meta"):
        ours = Trunk(spec).state_dict()
    counters = {name for name in ours if name.endswith("num_batches_tracked")}
    assert set(ours) - counters == set(theirs) - {name for name in theirs if name.endswith("num_batches_tracked")}
    assert all(ours[name].shape == theirs[name].shape for name in theirs if name in ours)


def test_folding_normalisation_changes_nothing() -> None:
    trunk = Trunk(tiny_spec(fpn_channels=8))
    with torch.no_grad():
        for _ in range(3):  # statistics other than 0 and 1
            trunk.train()(window(2))
        trunk.eval()
        before = trunk(window())
        fold_normalisation(trunk)
        after = trunk(window())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in trunk.modules())
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.deltas, before.deltas, atol=1e-4, rtol=1e-4)


def test_a_batch_of_two_equals_two_of_one() -> None:
    backend = EagerBackend(Trunk(tiny_spec()), device="cpu", precision="fp32")
    both = window(2).numpy()
    together = backend.trunk(both).logits
    for i in range(2):
        torch.testing.assert_close(backend.trunk(both[i : i + 1]).logits[0], together[i], atol=1e-5, rtol=1e-4)


def test_bf16_stays_close_to_fp32() -> None:
    trunk = Trunk(tiny_spec())
    exact = EagerBackend(trunk, device="cpu", precision="fp32").trunk(window().numpy()).logits.sigmoid()
    short = EagerBackend(trunk, device="cpu", precision="bf16").trunk(window().numpy()).logits.sigmoid()
    assert (exact - short).abs().max() < 0.01


def test_build_is_strict() -> None:
    spec = tiny_spec()
    tensors = weights_of(Trunk(spec))
    build(spec, tensors)
    with pytest.raises(SpecMismatchError, match="1 missing"):
        build(spec, {k: v for k, v in tensors.items() if k != "backbone.body.conv1.weight"})
    with pytest.raises(SpecMismatchError, match="needed"):
        build(spec, {**tensors, "backbone.body.conv1.weight": torch.zeros(64, 4, 7, 7)})


def test_four_bands_are_possible() -> None:
    spec = tiny_spec(bands=4, mean=(0.4,) * 4, std=(0.2,) * 4)
    with torch.no_grad():
        assert Trunk(spec).eval()(window(bands=4)).logits.isfinite().all()


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ConfigError, match="resnet18"):
        Trunk(tiny_spec(backbone="vgg"))


def test_device_and_precision_are_checked() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(BackendUnavailableError, match="not available"):
        resolve_device("nonsense")
    with pytest.raises(BackendUnavailableError, match="auto, fp32, bf16"):
        resolve_precision("fp8", torch.device("cpu"))  # type: ignore[arg-type]
