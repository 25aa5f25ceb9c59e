#!/usr/bin/env python3
"""Times peers on the networks that `covpipe bench` times, for side-by-side runs (scripts/bench-peers.sh). Library calls only.
  bench_peers.py CASE [--threads N] [--repeat N]     prints: case what type threads batch median_s min_s
Cases: gnunet, trunk, unet, unet_training, lungmask, each by /torch_bf16 or /torch_fp32; gnunet, trunk and unet by /openvino_bf16 or /openvino_fp32, too
lungmask: the network of the program of that name for one slice, at its own 256 x 256, and nothing else of what it does
Needs: pip install torch torchvision segmentation_models_pytorch openvino onnx onnxscript lungmask"""
import argparse
import os
import statistics
import tempfile
import time

SIZE = 512


def gnunet():
    import torch
    from torch import nn

    def twice(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.GroupNorm(32, o), nn.ReLU(True),
                             nn.Conv2d(o, o, 3, padding=1, bias=False), nn.GroupNorm(32, o), nn.ReLU(True))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            w = [64, 128, 256, 512, 1024]
            self.down = nn.ModuleList([twice(1 if k == 0 else w[k - 1], w[k]) for k in range(5)])
            self.pool = nn.MaxPool2d(2)
            self.up = nn.ModuleList([nn.ConvTranspose2d(w[k + 1], w[k], 2, 2) for k in range(4)])
            self.join = nn.ModuleList([twice(2 * w[k], w[k]) for k in range(4)])
            self.head = nn.Conv2d(64, 2, 1)

        def forward(self, x):
            skips = []
            for k in range(5):
                x = self.down[k](self.pool(x) if k else x)
                skips.append(x)
            for k in (3, 2, 1, 0):
                x = self.join[k](torch.cat([skips[k], self.up[k](x)], 1))
            return self.head(x)
    return Net(), 1


def trunk():
    import torch
    import torchvision
    net = torchvision.models.resnet50(weights=None)
    return torch.nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3), 3


def unet():
    import segmentation_models_pytorch as smp
    return smp.Unet("resnet50", encoder_weights=None, in_channels=3, classes=2), 3


def lungmask():
    from lungmask.resunet import UNet
    return UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False), 1


BUILD = {"gnunet": gnunet, "trunk": trunk, "unet": unet, "unet_training": unet, "lungmask": lungmask}


def torch_forward(build, bf16, batch):
    import torch
    net, channels = build()
    size = 256 if build is lungmask else SIZE
    net = net.eval().to(memory_format=torch.channels_last)
    x = torch.rand(batch, channels, size, size).contiguous(memory_format=torch.channels_last)

    def step():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net(x)
    return step


def torch_training(build, bf16, batch):
    import torch
    net, channels = build()
    net = net.train().to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)
    x = torch.rand(batch, channels, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 2, (batch, SIZE, SIZE))

    def step():
        sgd.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(net(x).float(), y)
        loss.backward()
        sgd.step()
    return step


def openvino_forward(build, kind, threads, batch):
    import openvino
    import torch
    net, channels = build()
    x = torch.rand(batch, channels, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        torch.onnx.export(net.eval(), (x,), path, opset_version=18, dynamo=True)
        model = openvino.Core().read_model(path)
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                                                                "INFERENCE_PRECISION_HINT": "f32" if kind == "fp32" else kind})
    request, array = compiled.create_infer_request(), x.numpy()
    return lambda: request.infer([array])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("case")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--repeat", type=int, default=5)
    a = ap.parse_args()
    name, _, how = a.case.partition("/")
    peer, _, kind = how.partition("_")
    build, training = BUILD[name], name.endswith("training")
    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    batch = 4 if training else 1
    if peer == "openvino":
        step = openvino_forward(build, kind, a.threads, batch)
    else:
        step = (torch_training if training else torch_forward)(build, kind == "bf16", batch)
    step()
    seconds = []
    for _ in range(a.repeat):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print(f"{a.case:26s} {'training' if training else 'forward':8s} {kind:5s} {a.threads:7d} {batch:6d} "
          f"{statistics.median(seconds):10.4f} {min(seconds):10.4f}", flush=True)


if __name__ == "__main__":
    main()
