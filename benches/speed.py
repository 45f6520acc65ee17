"""Speed of tl-batch, of plain tract and of ONNX Runtime on the same network and machine.

Each round runs all engines in turn, each for a few seconds; a table shows the median of each engine and the
median of the rounds' ratios to ONNX Runtime, so that a temporary slowdown of the machine affects all of them.
Each thread of an engine runs one image at a time on one core. OpenVINO is measured too if it can be imported, and rten if
benches/rten is built (`cargo build --release --manifest-path benches/rten/Cargo.toml --target-dir target/rten`).

With --quantized, a saved model and its int8 version from `tl-batch quantize` are measured in both programs, in the same
rounds; ratios are to ONNX Runtime's int8.

With --folder, whole extractions are measured: from the images in a folder to features on disk, by
`tl-batch extract` and by Pillow and ONNX Runtime in as many processes as there are threads.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TL_BATCH", ROOT / "target/release/tl-batch"))
RTEN = ROOT / "target/rten/release/rten-rate"
KERAS_PYTHON = ROOT / "target/keras-venv/bin/python"


class Base(NamedTuple):
    """A network and its preprocessing, from its model card."""

    # A name or a path, as tl-batch accepts it.
    name: str
    file: Path
    # The feature layer; None where the network ends with its features.
    features: str | None
    # Height and width of the input in pixels.
    side: int
    filter: Image.Resampling = Image.Resampling.BILINEAR
    normalise: Callable | None = None


BASES = {
    "efficientnet-lite0": Base(
        "efficientnet-lite0",
        ROOT / "models/efficientnet-lite0.onnx",
        "features",
        224,
        Image.Resampling.BICUBIC,
        lambda rgb: (rgb - 127) / 128,
    ),
    "vgg16": Base(
        "vgg16",
        ROOT / "models/vgg16-conv-base.onnx",
        None,
        150,
        normalise=lambda rgb: rgb[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32),
    ),
}


def exported(network, folder):
    """A keras.applications network with random weights, without its classifier."""
    command = [KERAS_PYTHON, ROOT / "scripts/export_keras.py", network, "--weights", "random", "--out", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = Path(folder) / f"{network.lower()}.onnx"
    card = tomllib.loads(file.with_suffix(".toml").read_text())
    return Base(str(file), file, None, card["input-size"])


def model_of(base):
    """The ONNX file of a backbone, cut at its feature layer, as bytes."""
    model = onnx.load(base.file)
    if base.features is None:
        return model.SerializeToString()
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    wanted, needed = [base.features], set()
    while wanted:
        node = producers.get(wanted.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            wanted.extend(node.input)
    kept = [node for node in graph.node if node.output[0] in needed]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(base.features, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString()


def onnx_runtime_session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def rate_of(runners, seconds):
    """Images per second when all runners (functions that run one image) run at the same time."""
    counts = [0] * len(runners)
    for run in runners:
        run()

    def work(i):
        while time.perf_counter() - start < seconds:
            runners[i]()
            counts[i] += 1

    start = time.perf_counter()
    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(runners))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def onnx_runtime_rate(base, threads, seconds):
    model, side = model_of(base), base.side
    picture = np.random.default_rng(1).random((1, 3, side, side), np.float32) * 2 - 1

    def runner():
        session = onnx_runtime_session(model)
        name = session.get_inputs()[0].name
        return lambda: session.run(None, {name: picture})

    return rate_of([runner() for _ in range(threads)], seconds)


def openvino_rate(base, threads, seconds):
    import openvino

    side = base.side
    picture = np.random.default_rng(1).random((1, 3, side, side), np.float32) * 2 - 1
    core = openvino.Core()
    model = core.read_model(model_of(base))
    model.reshape([1, 3, side, side])
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}

    def runner():
        request = core.compile_model(model, "CPU", config).create_infer_request()
        return lambda: request.infer({0: picture})

    return rate_of([runner() for _ in range(threads)], seconds)


def rten_rate(base, threads, seconds):
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model_of(base))
        file.flush()
        command = [RTEN, file.name, str(base.side), str(threads), str(seconds)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def program_rate(engine):
    def rate(base, threads, seconds):
        command = [PROGRAM, "bench", base.name, "--threads", str(threads), "--seconds", str(seconds), "--json"]
        environment = {**os.environ, "TL_ENGINE": engine}
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return json.loads(result.stdout)["rates"][0]["images_per_second"]

    return rate


def saved_model(path):
    """A saved model as a network that ends with its output."""
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    return Base(str(Path(path).resolve()), Path(path), None, shape.dim[2].dim_value)


def compare_quantized(floats, integers, threads, args):
    """Measures a float32 model and its int8 version in both programs in turn."""
    version = onnxruntime.__version__
    engines = {
        "tl-batch, float32": (program_rate(""), floats),
        "tl-batch, int8": (program_rate(""), integers),
        f"ONNX Runtime {version}, float32": (onnx_runtime_rate, floats),
        f"ONNX Runtime {version}, int8": (onnx_runtime_rate, integers),
    }
    compare(f"{floats.file.stem}, {threads}", engines, args.rounds,
            lambda engine: engine[0](engine[1], threads, args.seconds), higher_is_better=True)


def extract_with_program(base, folder, threads, out):
    command = [PROGRAM, "-q", "extract", folder, "--out", out, "--model", base.name, "--workers", str(threads),
               "--pool", "none" if base.features is None else "avg"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def extract_part(job):
    name, paths = job
    base = BASES[name]
    size = (base.side, base.side)
    session = onnx_runtime_session(model_of(base))
    name = session.get_inputs()[0].name
    rows = []
    for path in paths:
        with Image.open(path) as picture:
            picture = picture.convert("RGB").resize(size, base.filter)
        pixels = base.normalise(np.asarray(picture, np.float32)).transpose(2, 0, 1)
        rows.append(session.run(None, {name: np.ascontiguousarray(pixels[None])})[0][0])
    return np.stack(rows)


def extract_with_pillow(base, folder, threads, out):
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    jobs = [(base.name, paths[i::threads]) for i in range(threads)]
    with multiprocessing.get_context("spawn").Pool(threads) as pool:
        np.save(f"{out}.npy", np.concatenate(pool.map(extract_part, jobs)))


def extraction_seconds(extract):
    def seconds(base, folder, threads):
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            extract(base, folder, threads, str(Path(directory) / "features"))
            return time.perf_counter() - start

    return seconds


def compare(title, engines, rounds, measure, higher_is_better):
    """Runs every engine in each round and prints medians, and ratios of speed to the last engine."""
    results = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            results[name].append(measure(engine))
    reference = list(engines)[-1]
    for name, values in results.items():
        pairs = zip(values, results[reference])
        ratios = [v / r if higher_is_better else r / v for v, r in pairs]
        print(f"| {title} | {name} | {statistics.median(values):.1f} | {statistics.median(ratios):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="*", default=list(BASES), choices=list(BASES))
    parser.add_argument("--zoo", nargs="+", default=[], metavar="NETWORK",
                        help="also these keras.applications networks, with random weights; needs target/keras-venv")
    parser.add_argument("--quantized", nargs=2, action="append", default=[], metavar=("FLOAT", "INT8"),
                        help="measure only this saved model and its quantised version; may be repeated")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engines", nargs="+", default=["", "tract"],
                        help="values of TL_ENGINE to measure; empty for the fastest [default: '' tract]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each engine in a round")
    parser.add_argument("--folder", help="folder of images: also measure whole extractions")
    parser.add_argument("--only-folder", action="store_true", help="measure only whole extractions")
    args = parser.parse_args()

    engines = {f"tl-batch{f', {engine}' if engine else ''}": program_rate(engine) for engine in args.engines}
    try:
        import openvino

        engines[f"OpenVINO {openvino.__version__.split('-')[0]}"] = openvino_rate
    except ImportError:
        pass
    if RTEN.exists():
        engines["rten 0.27"] = rten_rate
    engines[f"ONNX Runtime {onnxruntime.__version__}"] = onnx_runtime_rate
    cores = sorted(os.sched_getaffinity(0))
    bases = {name: BASES[name] for name in args.bases}
    scratch = tempfile.TemporaryDirectory()
    bases |= {network.lower(): exported(network, scratch.name) for network in args.zoo}
    print("| backbone, threads | engine | images/s, or seconds | speed, ONNX Runtime = 1 |")
    print("| --- | --- | ---: | ---: |")
    for pair in args.quantized:
        for threads in args.threads:
            os.sched_setaffinity(0, cores[-threads:])
            compare_quantized(*map(saved_model, pair), threads, args)
    for title, base in [] if args.only_folder or args.quantized else bases.items():
        for threads in args.threads:
            # The last cores, because the first does more work for the system.
            os.sched_setaffinity(0, cores[-threads:])
            compare(f"{title}, {threads}", engines, args.rounds,
                    lambda engine: engine(base, threads, args.seconds), higher_is_better=True)
    if args.folder:
        os.sched_setaffinity(0, cores)
        extractions = {
            "tl-batch extract": extraction_seconds(extract_with_program),
            "Pillow + ONNX Runtime": extraction_seconds(extract_with_pillow),
        }
        for base in (BASES[name] for name in args.bases):
            for threads in args.threads:
                compare(f"{base.name}, folder, {threads}", extractions, args.rounds,
                        lambda extract: extract(base, args.folder, threads), higher_is_better=False)


if __name__ == "__main__":
    main()
