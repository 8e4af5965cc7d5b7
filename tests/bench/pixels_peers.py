"""The views of the DinoTwins recipe as they are made in Python: torchvision's transforms on PIL images as facebookresearch/dino
composes them, and albumentations (OpenCV), whose pixels differ. One process, one thread. Prints milliseconds an image as JSON.
"""

import glob
import io
import json
import random
import sys
import time

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T

torch.set_num_threads(1)
cv2.setNumThreads(0)
random.seed(0)
torch.manual_seed(0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Size, least and greatest area, blur probability, solarisation probability, how many.
VIEWS = [
    (224, (0.4, 1.0), 1.0, 0.0, 1),
    (224, (0.4, 1.0), 0.1, 0.2, 1),
    (96, (0.05, 0.4), 0.5, 0.0, 6),
    (224, (0.08, 1.0), 1.0, 0.0, 1),
    (224, (0.08, 1.0), 0.1, 0.2, 1),
]


def sometimes(p, change):
    return T.Lambda(lambda image: change(image) if random.random() < p else image)


def with_torchvision(size, area, blur, solarize):
    return T.Compose([
        T.RandomResizedCrop(size, scale=area, interpolation=T.InterpolationMode.BICUBIC),
        T.RandomHorizontalFlip(p=0.5),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        sometimes(blur, lambda image: image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))),
        sometimes(solarize, ImageOps.solarize),
        T.ToTensor(),
        T.Normalize(MEAN, STD),
    ])  # fmt: skip


def with_albumentations(size, area, blur, solarize):
    return A.Compose([
        A.RandomResizedCrop((size, size), scale=area, interpolation=cv2.INTER_CUBIC),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8),
        A.ToGray(p=0.2),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
        A.Solarize(p=solarize),
        A.Normalize(MEAN, STD),
    ])  # fmt: skip


def millis(images, work):
    begun = time.perf_counter()
    for image in images:
        work(image)
    return (time.perf_counter() - begun) * 1000 / len(images)


paths = sorted(glob.glob(f"{sys.argv[1]}/**/*.jpg", recursive=True))[: int(sys.argv[2])]
data = [open(path, "rb").read() for path in paths]
torch_views = [with_torchvision(*view[:4]) for view in VIEWS for _ in range(view[4])]
cv_views = [with_albumentations(*view[:4]) for view in VIEWS for _ in range(view[4])]
decoded = [Image.open(io.BytesIO(bytes_)).convert("RGB") for bytes_ in data]


def decode_cv(bytes_):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(bytes_, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


result = {
    "torchvision": millis(
        data, lambda b: [view(image) for image in [Image.open(io.BytesIO(b)).convert("RGB")] for view in torch_views]
    ),
    "torchvision_decoded": millis(decoded, lambda image: [view(image) for view in torch_views]),
    "albumentations": millis(data, lambda b: [view(image=image) for image in [decode_cv(b)] for view in cv_views]),
}
print(json.dumps(result))
