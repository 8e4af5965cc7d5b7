"""Golden weights of probes that are trained: facebookresearch/dino's and dinov2's linear classifiers, built by their own classes,
and a classifier with a hidden layer, all in PyTorch (float64 from the same float32 inputs;
dinov2's in float32, as its code has it).

    pip install torch==2.15 numpy==2.4.6
    git clone https://github.com/facebookresearch/dino && git -C dino checkout 7c446df5b9f45747937fb0d72314eb9f7b66930a
    git clone https://github.com/facebookresearch/dinov2 && git -C dinov2 checkout b8931f7bf91576930313be2c6d6af376033b35f0
    python tests/golden/trained_probes.py tests/golden dino dinov2

Writes trained_probes.json. Features are those of probes.py, written [rows, width, classes, phase, apart]; initial weights are
f32(0.01 sin(1.3 i + phase)), i along the rows of our layout [inputs, classes].
- dino: of two blocks of 8 channels, [50, 24, 4, 0.3, 0.7] (class tokens 0..8 and 8..16, mean of patches 16..24), `blocks` 2 or,
  interleaved with the patches, 1; batches of 16, the last of 2; epoch e has image (7 i + 11 e) mod 50 at place i; 5 epochs, SGD
  with CosineAnnealingLR by epoch, learning rate 0.5: `weight` and `bias` by `plain` and `interleaved`, phase 0.1
- dinov2: of the same features; blocks 1 and 2, without and with patches, learning rates 0.1 and 1, phase 0.2 + 0.1 head; batches
  of 8 over the same epochs without a break, 15 iterations, cosine by iteration: by head `weight` and `bias`, in its order
- mlp: of [60, 12, 4, 0.3, 0.7], 24 hidden; initial values 0.2 sin(1.3 i + phase), phases 0.1, 0.2, 0.3, 0.4 for w1, b1, w2, b2;
  step s has images (7 i + 11 s) mod 60, i < 20, and leaves out hidden value j, counted over the batch, where
  (7 j + 3 s) mod 10 = 0 (others times 1 / 0.9); 30 steps, SGD with momentum 0.9, 0.1 times a cosine by step
"""

import importlib.util
import json
import pathlib
import sys
from unittest.mock import MagicMock

import drawn_features
import numpy as np
import torch
from torch import nn

folder, dino_code, dinov2_code = (pathlib.Path(a) for a in sys.argv[1:4])
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def module(name, path):
    """A reference's module; what it imports beside PyTorch is not called here."""
    for stub in ["torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.models", "utils", "vit_utils",
                 "vision_transformer", "fvcore", "fvcore.common", "fvcore.common.checkpoint", "dinov2", "dinov2.data",
                 "dinov2.data.transforms", "dinov2.distributed", "dinov2.eval", "dinov2.eval.metrics", "dinov2.eval.setup",
                 "dinov2.eval.utils", "dinov2.logging"]:
        sys.modules.setdefault(stub, MagicMock())
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


eval_linear = module("eval_linear", dino_code / "eval_linear.py")
linear = module("linear", dinov2_code / "dinov2" / "eval" / "linear.py")


def features(rows, width, classes, phase, apart):
    drawn = drawn_features.features(rows, width, classes, phase, apart)
    return torch.tensor(drawn), torch.tensor(drawn_features.labels_of(rows, classes))


def initial(inputs, classes, phase):
    """nn.Linear's layout is the transpose of ours."""
    values = 0.01 * np.sin(1.3 * np.arange(inputs * classes) + phase)
    return torch.tensor(values.astype(np.float32).astype(np.float64)).reshape(inputs, classes).T.contiguous()


def ours(layer):
    return {"weight": layer.weight.detach().T.flatten().tolist(), "bias": layer.bias.detach().tolist()}


x, labels = features(50, 24, 4, 0.3, 0.7)
# As the networks return them: one image token by token; a single patch token is its own mean.
blocks = [torch.stack([x[:, 0:8], x[:, 16:24]], 1), torch.stack([x[:, 8:16], x[:, 16:24]], 1)]


def epoch(e):
    return [(7 * i + 11 * e) % 50 for i in range(50)]


def dino(n, avgpool):
    inputs = 8 * n + 8 * avgpool
    classifier = eval_linear.LinearClassifier(inputs, num_labels=4)
    assert classifier.linear.bias.abs().max() == 0
    classifier.linear.weight.data = initial(inputs, 4, 0.1)
    optimizer = torch.optim.SGD(classifier.parameters(), 0.5, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5, eta_min=0)
    for e in range(5):
        order = epoch(e)
        for first in range(0, 50, 16):
            rows = order[first : first + 16]
            intermediate = [block[rows] for block in blocks[-n:]]
            output = torch.cat([block[:, 0] for block in intermediate], dim=-1)
            if avgpool:
                patches = torch.mean(intermediate[-1][:, 1:], dim=1)
                output = torch.cat((output.unsqueeze(-1), patches.unsqueeze(-1)), dim=-1).reshape(len(rows), -1)
            loss = nn.CrossEntropyLoss()(classifier(output), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    return ours(classifier.linear)


def dinov2():
    # create_linear_input takes (patch tokens, class token) of each block.
    def tokens(rows):
        return [(block[rows][:, 1:], block[rows][:, 0]) for block in blocks]

    heads, groups = [], []
    for n in [1, 2]:
        for avgpool in [False, True]:
            for rate in [0.1, 1.0]:
                width = linear.create_linear_input(tokens([0]), n, avgpool).shape[1]
                # The reference hands on float32.
                head = linear.LinearClassifier(width, n, avgpool, num_classes=4).float()
                assert head.linear.bias.abs().max() == 0
                head.linear.weight.data = initial(width, 4, 0.2 + 0.1 * len(heads)).float()
                heads.append(head)
                groups.append({"params": head.parameters(), "lr": rate})
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15, eta_min=0)
    stream = [row for e in range(3) for row in epoch(e)]
    for iteration in range(15):
        rows = stream[8 * iteration : 8 * iteration + 8]
        loss = sum(nn.CrossEntropyLoss()(head(tokens(rows)), labels[rows]) for head in heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return [ours(head.linear) for head in heads]


def mlp():
    x, labels = features(60, 12, 4, 0.3, 0.7)

    def wave(shape, phase):
        values = 0.2 * np.sin(1.3 * np.arange(int(np.prod(shape))) + phase)
        return nn.Parameter(torch.tensor(values.astype(np.float32).astype(np.float64)).reshape(shape))

    parameters = {"w1": wave((12, 24), 0.1), "b1": wave((24,), 0.2), "w2": wave((24, 4), 0.3), "b2": wave((4,), 0.4)}
    optimizer = torch.optim.SGD(parameters.values(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30, eta_min=0)
    for step in range(30):
        rows = [(7 * i + 11 * step) % 60 for i in range(20)]
        j = torch.arange(20 * 24).reshape(20, 24)
        mask = torch.where((7 * j + 3 * step) % 10 == 0, 0.0, 1 / 0.9)
        hidden = nn.functional.gelu(x[rows] @ parameters["w1"] + parameters["b1"]) * mask
        loss = nn.CrossEntropyLoss()(hidden @ parameters["w2"] + parameters["b2"], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return {name: value.detach().flatten().tolist() for name, value in parameters.items()}


golden = {"dino": {"plain": dino(2, False), "interleaved": dino(1, True)}, "dinov2": dinov2(), "mlp": mlp()}
rounded = json.loads(json.dumps(golden), parse_float=lambda text: round(float(text), 9))
(folder / "trained_probes.json").write_text(json.dumps(rounded) + "\n")
