"""Speed of the engine on whole networks, ONNX Runtime on the same machine being 1.

Each round runs the engine (the example `faster`) and ONNX Runtime in turn, each for some time on one picture at a time with
as many threads; a table shows the shortest time of each and the median of the rounds' ratios. A name is a network of
timm with random weights, exported by torch.onnx; a path is an ONNX file.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime

PROGRAM = Path(__file__).resolve().parent.parent / "target/release/examples/faster"


def export(name: str, folder: Path) -> Path:
    """The network `name[@SIDE]` of timm as an ONNX file."""
    import timm
    import torch

    name, _, side = name.partition("@")
    side = int(side or 224)
    torch.manual_seed(0)
    fixed = {"img_size": side} if name.startswith("vit_small_patch14") else {}
    model = timm.create_model(name, pretrained=False, **fixed).eval()
    file = folder / f"{name}.onnx"
    example = torch.zeros(1, 3, side, side)
    for newer in (False, True):
        try:
            more = {"dynamo": True, "external_data": False} if newer else {"dynamo": False}
            torch.onnx.export(model, (example,), file, opset_version=18 if newer else 17, **more)
            return file
        except TypeError:
            continue  # The exporter that traces does not know every form of attention.
    sys.exit(f"torch.onnx cannot export {name}")


def theirs(session, feed, seconds: float) -> float:
    """The shortest run of ONNX Runtime, in milliseconds."""
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        shortest = min(shortest, time.perf_counter() - start)
    return 1e3 * shortest


def ours(file: Path, seconds: float, threads: int) -> float:
    """The shortest run of the engine, in milliseconds."""
    command = [PROGRAM, file, str(seconds), str(threads)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^\w+: ([\d.]+) ms", printed.stdout, re.MULTILINE)
    return float(found.group(1)) if found else sys.exit(f"{file}: {printed.stderr or printed.stdout}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="+", metavar="NAME|FILE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7)
    given = parser.parse_args()
    os.sched_setaffinity(0, set(range(given.threads)))
    print("| network | here, ms | ONNX Runtime, ms | speed, ONNX Runtime = 1 |\n| --- | ---: | ---: | ---: |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            file = Path(name) if name.endswith(".onnx") else export(name, Path(folder))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = given.threads
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            first = session.get_inputs()[0]
            shape = [size if isinstance(size, int) else 1 for size in first.shape]
            feed = {first.name: numpy.random.default_rng(0).random(shape, numpy.float32)}
            rounds = [
                (ours(file, given.seconds, given.threads), theirs(session, feed, given.seconds))
                for _ in range(given.rounds)
            ]
            best = [min(times) for times in zip(*rounds, strict=True)]
            ratios.append(statistics.median(other / own for own, other in rounds))
            print(f"| {Path(name).stem} | {best[0]:.2f} | {best[1]:.2f} | {ratios[-1]:.2f} |", flush=True)
    print(f"| median | | | {statistics.median(ratios):.2f} |")


main()
