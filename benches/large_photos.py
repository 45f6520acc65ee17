"""Extraction from large JPEGs, decoded at a reduced size and whole: large_photos.py PROGRAM [ROUNDS].

Enlarges the photos of datasets/tiny to 4032 x 3024 pixels, with noise, and runs `tl-batch extract` with one worker on
them in turn: with the card of EfficientNet-Lite0, and with the same card with `reducing-gap = 0`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIZE = (4032, 3024)


def make_photos(folder):
    noise = np.random.default_rng(0)
    for path in sorted((ROOT / "datasets/tiny").rglob("*.jpg")):
        photo = np.asarray(Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.float32)
        photo += noise.normal(0, 4, (SIZE[1], SIZE[0], 1)).astype(np.float32)
        to = folder / path.parent.name / path.name
        to.parent.mkdir(exist_ok=True)
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(to, quality=88)


def make_bases(folder):
    """Returns the names of two backbones that differ in their gap."""
    card = (ROOT / "models/efficientnet-lite0.toml").read_text()
    network = (ROOT / "models/efficientnet-lite0.onnx").read_bytes()
    for name, gap in [("reduced", "3.0"), ("whole", "0.0")]:
        own = card.replace('"efficientnet-lite0', f'"{name}').replace("reducing-gap = 3.0", f"reducing-gap = {gap}")
        (folder / f"{name}.toml").write_text(own)
        (folder / f"{name}.onnx").write_bytes(network)
    return ["reduced", "whole"]


def main():
    program = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for name in ("photos", "models"):
            (scratch / name).mkdir()
        make_photos(scratch / "photos")
        bases = make_bases(scratch / "models")
        count = len(list((scratch / "photos").rglob("*.jpg")))
        seconds = {base: [] for base in bases}
        for turn in range(rounds):
            for base in bases:
                out = scratch / f"{base}-{turn}"
                command = [program, "-q", "extract", "photos", "--model", base, "--workers", "1", "--out", out]
                start = time.perf_counter()
                environment = {**os.environ, "TL_MODELS": str(scratch / "models")}
                subprocess.run(command, cwd=scratch, env=environment, stdout=subprocess.DEVNULL, check=True)
                seconds[base].append(time.perf_counter() - start)
        rows = [np.load(scratch / f"{base}-0/features.npy") for base in bases]
    cosines = np.sum(rows[0] * rows[1], 1) / np.prod([np.linalg.norm(r, axis=1) for r in rows], 0)
    print("| decoded | ms per photo | speed |\n| --- | ---: | ---: |")
    for base in bases:
        ratio = statistics.median(whole / own for whole, own in zip(seconds["whole"], seconds[base]))
        print(f"| {base} | {1000 * statistics.median(seconds[base]) / count:.0f} | {ratio:.2f} |")
    print(f"\ncosine of the features: median {np.median(cosines):.4f}, least {cosines.min():.4f}")


if __name__ == "__main__":
    main()
