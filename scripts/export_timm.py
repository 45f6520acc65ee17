"""Exports an image classifier of timm (PyTorch) to ONNX, with its model card.

    export_timm.py resnet18.a1_in1k                       pretrained weights
    export_timm.py mobilenetv3_small_100 --weights random --out /srv/models
    export_timm.py --list 'resnet*'                       names of the networks

Writes DIR/<name>.onnx and DIR/<name>.toml; `tl-batch --model <name>` finds them where DIR is one of its model
folders. Nodes keep the names of timm's modules, BatchNorm stays separate, the input is N x 3 x H x W with free height
and width where the network allows it. The result is compared with PyTorch in ONNX Runtime before it is written.
Needs torch, timm, onnx and onnxruntime, which are large: `pip install torch timm onnx onnxruntime`.
"""

import argparse
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from model_card import lines, model_card

try:
    import timm
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: pip install torch timm")

OPSET = 17
TOLERANCE = 1e-4


def randomise(model, seed):
    """BatchNorm statistics and weights away from 0 and 1, so that an error in folding shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in [
                (module.weight, 0.6, 1.4),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.7, 1.4),
            ]:
                with torch.no_grad():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)


def to_onnx(model, size, free_size):
    """The bytes of the network as one ONNX file."""
    axes = {"image": {0: "N"}, "logits": {0: "N"}}
    if free_size:
        axes["image"].update({2: "H", 3: "W"})
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Only the older exporter keeps module names; it warns about that at length.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, size, size),),
            buffer,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    return without_copies(onnx.load_model_from_string(buffer.getvalue())).SerializeToString(deterministic=True)


def without_copies(model):
    """Replaces the Identity nodes with which the exporter shares equal weights by the weights."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in weights:
            copy = onnx.TensorProto()
            copy.CopyFrom(weights[node.input[0]])
            copy.name = node.output[0]
            model.graph.initializer.append(copy)
            continue
        node.name = node.name.strip("/") or node.output[0]
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def compare(model, data, size, seed):
    """Runs both on two images of noise; returns the largest difference, relative to the largest value."""
    pictures = np.random.default_rng(seed).normal(0, 1, (2, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pictures)).numpy()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    ours = session.run(None, {"image": pictures})[0]
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6))


def card_text(name, network, model, config, size, free_size, pretrained, data):
    """The model card, as tl reads it."""
    cfg = model.pretrained_cfg
    origin = cfg.get("hf_hub_id") or "pretrained weights"
    if not pretrained:
        origin = "random weights, of no use but for tests"
    weights = (p.numel() for p in model.parameters())
    # As Keras counts: BatchNorm's mean and variance are parameters.
    statistics = (b.numel() for b in model.buffers() if b.dim() > 0)
    facts = {
        "source": f"timm {timm.__version__}, {network}, {origin}",
        "license": (cfg.get("license") or "see source") if pretrained else None,
        "parameters": sum(weights) + sum(statistics),
        "features": model.num_features,
        "input-size": size,
        "min-size": 32 if free_size else size,
    }
    labels = lines({"labels": "imagenet-1k" if model.num_classes == 1000 else None})
    filters = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos3"}
    preprocess = {
        "resize": "crop",
        "filter": filters.get(config["interpolation"], "bicubic"),
        "order": "rgb",
        "scale": 1 / 255,
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }
    remark = [f"timm takes the middle {config['crop_pct']:.1%} of the shorter side; here it is the whole shorter side."]
    tail = f"# The feature and the logits are found in the graph.\n{labels}"
    return model_card(name, network, data, facts, tail, remark, preprocess)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a timm model name, such as resnet18.a1_in1k; with --list a pattern")
    parser.add_argument("--list", action="store_true", help="list the networks and exit")
    parser.add_argument("--weights", choices=["pretrained", "random"], default="pretrained")
    parser.add_argument("--input-size", type=int, metavar="PX", help="height and width [default: the network's own]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights [default: 0]")
    parser.add_argument("--name", help="name of the backbone [default: the network's]")
    parser.add_argument("--out", type=Path, default=Path("models"), metavar="DIR", help="[default: models]")
    args = parser.parse_args()
    if args.list:
        print("\n".join(timm.list_models(args.network)))
        return
    pretrained = args.weights == "pretrained"
    torch.manual_seed(args.seed)
    try:
        model = timm.create_model(args.network, pretrained=pretrained, exportable=True).eval()
    except RuntimeError as unknown:
        sys.exit(f"{unknown}; --list shows the networks")
    if not pretrained:
        randomise(model, args.seed)
    config = timm.data.resolve_model_data_config(model)
    size = args.input_size or config["input_size"][1]
    free_size = not model.pretrained_cfg.get("fixed_input_size", False)
    data = to_onnx(model, size, free_size)
    difference = compare(model, data, size, args.seed)
    if not difference <= TOLERANCE:
        sys.exit(f"the ONNX file of {args.network} differs from PyTorch by {difference:.1e} of the largest value")
    name = args.name or args.network
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.onnx").write_bytes(data)
    text = card_text(name, args.network, model, config, size, free_size, pretrained, data)
    (args.out / f"{name}.toml").write_text(text)
    print(f"{args.out / name}.onnx: differs from PyTorch by {difference:.1e} of the largest value")


if __name__ == "__main__":
    main()
