"""The steps that peers.py times: networks that mirror covpipe's layer by layer, torchvision's Mask R-CNN, one training step of each. A step is
a function without arguments, made by MAKE[peer](a, way); a: options (device, size) and gflop, which the networks fill by peer."""
import sys
from collections import namedtuple
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
from bench_peers import gnunet  # noqa: E402

Way = namedtuple("Way", "peer what kind compiled")  # what: forward, training; kind: bf16, fp32, bf16w
DETECTIONS = 100


class LungNet(nn.Module):
    """The paper preset of stages/lungnet.c."""
    def __init__(self):
        super().__init__()
        w = [64, 128, 256, 512, 1024]
        entry = [1, 128, 256, 256, 512]  # channels that arrive at a level: max pooling, unlike the convolutions before it, keeps them

        def unit(conv, o):
            return nn.Sequential(conv, nn.GroupNorm(8, o))

        self.first = nn.ModuleList([unit(nn.Conv2d(i, o, 3, padding=1, bias=False), o) for i, o in zip(entry, w)])
        self.second = nn.ModuleList([unit(nn.Conv2d(o, o, 3, padding=1, bias=False), o) for o in w])
        self.shortcut = nn.ModuleList([nn.Identity() if i == o else nn.Conv2d(i, o, 1, bias=False) for i, o in zip(entry, w)])
        self.contract = nn.ModuleList([unit(nn.Conv2d(w[k], w[k + 1], 2, 2, bias=False), w[k + 1]) for k in range(2)])
        self.up = nn.ModuleList([unit(nn.ConvTranspose2d(w[k + 1], w[k], 2, 2, bias=False), w[k]) for k in range(4)])
        self.join = nn.ModuleList([unit(nn.Conv2d(2 * w[k], w[k], 3, padding=1, bias=False), w[k]) for k in range(4)])
        self.head = nn.Conv2d(64, 1, 1)

    def forward(self, x):
        skips = []
        for k in range(5):
            if k:
                x = F.relu(self.contract[k - 1](x)) if k <= 2 else F.max_pool2d(x, 2)
            x = F.relu(self.second[k](F.relu(self.first[k](x))) + self.shortcut[k](x))
            skips.append(x)
        for k in (3, 2, 1, 0):
            x = F.relu(self.join[k](torch.cat([F.relu(self.up[k](x)), skips[k]], 1)))
        return self.head(x)


class UnetResnet50(nn.Module):
    """baselines_unet of stages/baselines.c around torchvision's encoder."""
    def __init__(self):
        super().__init__()
        r = torchvision.models.resnet50(weights=None)
        self.levels = nn.ModuleList([nn.Sequential(r.conv1, r.bn1, r.relu), nn.Sequential(r.maxpool, r.layer1), r.layer2, r.layer3, r.layer4])

        def unit(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True))

        entry, w = [2048 + 1024, 256 + 512, 128 + 256, 64 + 64, 32], [256, 128, 64, 32, 16]
        self.decoder = nn.ModuleList([nn.Sequential(unit(i, o), unit(o, o)) for i, o in zip(entry, w)])
        self.head = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x):
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
        for k, block in enumerate(self.decoder):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips[3 - k]], 1) if k < 4 else x)
        return self.head(x)


def autocast(a, way):
    return torch.autocast(a.device, torch.bfloat16, enabled=way.kind == "bf16")


def trainer(a, way, net, loss_of):
    sgd = torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4, fused=True)

    def step():
        sgd.zero_grad(set_to_none=True)
        with autocast(a, way):
            loss = loss_of()
        loss.backward()
        sgd.step()
    return step


def network(a, way, build, channels):
    """A step of a network that is no more than layers."""
    training = way.what == "training"
    batch = 4 if training else 1
    dtype = torch.bfloat16 if way.kind == "bf16w" or (way.kind == "bf16" and not training) else torch.float32
    net = build().to(a.device, dtype, memory_format=torch.channels_last).train(training)
    x = torch.rand(batch, channels, a.size, a.size, device=a.device).to(dtype, memory_format=torch.channels_last)
    if not training and not way.compiled:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net(x)
        a.gflop[way.peer] = counter.get_total_flops() * 1e-9
    run = torch.compile(net, mode="reduce-overhead") if way.compiled else net
    if training:
        y = torch.randint(0, 2, (batch, a.size, a.size), device=a.device)
        return trainer(a, way, net, lambda: F.cross_entropy(run(x).float(), y))
    return lambda: run(x)


def targets(a, batch):
    """Three squares an image, those of jobs/bench_lesion.c."""
    side = a.size // 8
    corner = [((2 * k + 1) * side, (k + 2) * side) for k in range(3)]
    masks = torch.zeros(3, a.size, a.size, dtype=torch.uint8, device=a.device)
    for k, (y, x) in enumerate(corner):
        masks[k, y:y + side, x:x + side] = 1
    boxes = torch.tensor([[x, y, x + side, y + side] for y, x in corner], dtype=torch.float32, device=a.device)
    return [{"boxes": boxes, "labels": torch.ones(3, dtype=torch.int64, device=a.device), "masks": masks} for _ in range(batch)]


def regions(a):
    """Those of give_regions in jobs/bench_lesion.c."""
    rows = [(i % 7 * a.size / 16, 8 + i % 10 * a.size / 20) for i in range(DETECTIONS)]
    return torch.tensor([[at, at, at + side, at + side] for at, side in rows], device=a.device)


def same_forward(a, model, x):
    heads, images = model.roi_heads, model.transform(list(x))[0]
    images.tensors = images.tensors.contiguous(memory_format=torch.channels_last)
    given = [regions(a)] * len(x)

    def step():
        maps = model.backbone(images.tensors)
        boxes, _ = model.rpn(images, maps)
        logits, delta = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, boxes, images.image_sizes)))
        masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(maps, given, images.image_sizes)))
        return boxes, logits.softmax(-1), delta, masks.sigmoid()
    return step


def settle(model, x):
    """The norms' statistics become those of x: with the initial ones features grow from layer to layer, and few proposals are left."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        model.backbone.train()(x)
    for m in norms:
        m.momentum = 0.1


def detector(a, way):
    training, same = way.what == "training", way.peer == "tv-same"
    options = {} if way.peer == "tv" else {"num_classes": 2, "box_score_thresh": 0.0}
    if same:
        options |= {"rpn_pre_nms_top_n_train": 1000, "rpn_post_nms_top_n_train": 1000, "box_batch_size_per_image": 128}
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=a.size, max_size=a.size, **options)
    model = model.to(a.device, memory_format=torch.channels_last)
    x = torch.rand(4 if training else 1, 3, a.size, a.size, device=a.device).to(memory_format=torch.channels_last)
    settle(model, model.transform(list(x))[0].tensors)
    if way.compiled:  # the rest of it, proposals and samples, is of no fixed shape
        model.backbone.compile(mode="reduce-overhead")
        model.rpn.head.compile(mode="reduce-overhead")
    model.train(training)
    if training:
        y = targets(a, len(x))
        return trainer(a, way, model, lambda: sum(model(list(x), y).values()))
    run = same_forward(a, model, x) if same else lambda: model(list(x))

    def step():
        with autocast(a, way):
            return run()
    return step


MAKE = {"gnunet": lambda a, w: network(a, w, lambda: gnunet()[0], 1), "lung-paper": lambda a, w: network(a, w, LungNet, 1),
        "unet-resnet50": lambda a, w: network(a, w, UnetResnet50, 3), "tv": detector, "tv-100": detector, "tv-same": detector}
