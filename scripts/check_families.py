"""Compares networks that crates/families builds with those of timm and transformers.

    check_families.py --program target/debug/examples/build [CASE...]
    check_families.py --program ... --fixtures              writes the small cases to crates/families/tests/data

Weights are pseudo-random numbers that follow from their names, so that a test in Rust makes the same without a file.
PyTorch and the ONNX file in ONNX Runtime see the same picture of noise. Prints a table in Markdown with the largest
difference of features and logits, relative to the largest value. Exits with 1 if one is above 1e-4, if parameter
totals differ, or if a network is not built.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
FIXTURES = Path(__file__).parent.parent / "crates/families/tests/data"
# Values of each tensor that a fixture keeps.
KEPT = 12

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
TOWER = {**TINY, "intermediate_size": 64}
MAPS = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}

# Name of the case, architecture or model type, its arguments, and the input size that is asked for. Small ones first.
SMALL = [
    ("vit", "vit_small_patch16_224", {**VIT, "img_size": 64}, None),
    ("vit-dinov2", "vit_small_patch14_dinov2", {**VIT, "img_size": 56}, None),
    ("vit-dinov2-resized", "vit_small_patch14_dinov2", {**VIT, "img_size": 56}, 42),
    ("vit-dinov2-registers", "vit_small_patch14_reg4_dinov2", {**VIT, "img_size": 56}, None),
    ("vit-dinov2-gated", "vit_giant_patch14_dinov2", {**VIT, "img_size": 56}, None),
    ("vit-deit3", "deit3_small_patch16_224", {**VIT, "img_size": 64}, 80),
    ("vit-clip", "vit_base_patch32_clip_quickgelu_224", {**VIT, "img_size": 64}, None),
    ("vit-siglip", "vit_base_patch16_siglip_224", {**VIT, "img_size": 64}, None),
    ("vit-gap", "vit_medium_patch16_reg4_gap_256", {**VIT, "img_size": 64}, None),
    ("vit-dinov3", "vit_small_patch16_dinov3", {**VIT, "img_size": 64}, None),
    ("vit-dinov3-gated", "vit_small_plus_patch16_dinov3_qkvb", {**VIT, "img_size": 64}, 80),
    ("eva02", "eva02_small_patch14_224", {**VIT, "img_size": 56}, None),
    ("eva02-parts", "eva02_base_patch14_224", {**VIT, "img_size": 56}, 70),
    ("eva02-clip", "eva02_base_patch16_clip_224", {**VIT, "img_size": 64}, None),
    ("pe-core", "vit_pe_core_small_patch16_384", {**VIT, "img_size": 64, "attn_pool_num_heads": 4}, 80),
    ("hf-vit", "vit", TOWER, None),
    ("hf-deit", "deit", TOWER, None),
    ("hf-dinov2", "dinov2", TINY, None),
    ("hf-dinov2-resized", "dinov2", {**TINY, "image_size": 56}, 42),
    ("hf-dinov2-registers", "dinov2_with_registers", {**TINY, "image_size": 56}, 42),
    ("hf-dinov3", "dinov3_vit", {**TINY, "patch_size": 16, "image_size": 64, "intermediate_size": 64, "num_register_tokens": 4}, None),
    ("hf-clip", "clip_vision_model", {**TOWER, "projection_dim": 16}, None),
    ("hf-siglip", "siglip_vision_model", TOWER, None),
    ("convnext", "convnext_tiny", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}, 64),
    ("convnextv2", "convnextv2_atto", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}, 64),
    ("hf-convnext", "convnext", MAPS, 64),
    ("hf-convnextv2", "convnextv2", MAPS, 64),
    ("resnet", "resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 32]}, 64),
    ("resnet-d", "resnet26d", {"layers": [1, 2, 1, 1], "channels": [8, 8, 8, 8]}, 64),
    ("resnext", "resnext50_32x4d", {"layers": [1, 1, 1, 1]}, 64),
    ("hf-resnet", "resnet", {"depths": [1, 2, 1, 1], "hidden_sizes": [16, 32, 32, 64], "embedding_size": 8}, 64),
    ("mobilenetv2", "mobilenetv2_050", {}, 64),
    ("mobilenetv3-small", "mobilenetv3_small_050", {}, 64),
    ("mobilenetv3-large", "tf_mobilenetv3_large_075", {}, 64),
    ("mobilenetv4", "mobilenetv4_conv_small_035", {}, 64),
    ("efficientnet", "efficientnet_b0", {}, 64),
    ("efficientnet-lite", "tf_efficientnet_lite0", {}, 64),
    ("efficientnetv2", "tf_efficientnetv2_b0", {}, 64),
]
WHOLE = [
    (name, name, {}, size)
    for name, size in [
        ("vit_tiny_patch16_224", None),
        ("vit_small_patch14_dinov2", 224),
        ("vit_small_patch14_reg4_dinov2", 224),
        ("vit_small_patch16_dinov3", 224),
        ("eva02_tiny_patch14_224", None),
        ("vit_pe_core_tiny_patch16_384", 224),
        ("vit_base_patch32_clip_224", None),
        ("vit_base_patch16_siglip_224", None),
        ("deit_tiny_patch16_224", None),
        ("convnext_atto", None),
        ("convnext_tiny", None),
        ("convnextv2_pico", None),
        ("resnet18", None),
        ("resnet50", None),
        ("resnet50d", None),
        ("seresnet50", None),
        ("resnext50_32x4d", None),
        ("wide_resnet50_2", None),
        ("mobilenetv2_100", None),
        ("mobilenetv3_small_100", None),
        ("mobilenetv3_large_100", None),
        ("mobilenetv4_conv_small", None),
        ("mobilenetv4_conv_medium", None),
        ("mobilenetv4_conv_large", None),
        ("efficientnet_lite0", None),
        ("tf_efficientnet_b1", None),
        ("efficientnetv2_rw_t", None),
        ("tf_efficientnetv2_s", None),
    ]
]


def noise(name, count):
    """So many numbers from 0 to 1 that follow from the name."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def weight(name, dims):
    """A weight's values: spread by its number of inputs, or as parts of a normalisation have them."""
    values = noise(name, int(np.prod(dims)))
    if name.endswith("running_var"):
        values = values + np.float32(0.5)
    elif len(dims) < 2:
        values = (values - np.float32(0.5)) * np.float32(0.4)
        if name.endswith(("weight", "gamma", "lambda1", "layer_scale_parameter")):
            values = values + np.float32(1)
    else:
        inputs = max(int(np.prod(dims[1:])), 1)
        values = (values - np.float32(0.5)) * np.float32((12 / inputs) ** 0.5)
    return values.reshape(dims)


def of_timm(architecture, args, folder):
    """Writes the network's files; returns it, its weights, and a function from a picture to features and logits."""
    model = timm.create_model(architecture, **args, num_classes=7).eval()
    cfg = {**model.pretrained_cfg, "num_classes": 7}
    config = {"architecture": architecture, "model_args": args, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    tensors = spread(model.state_dict())
    save_file(tensors, folder / "model.safetensors")
    model.load_state_dict({**model.state_dict(), **tensors})

    def run(picture):
        if hasattr(model, "set_input_size") and picture.shape[-1] != model.patch_embed.img_size[0]:
            model.set_input_size(picture.shape[-2:])
        maps = model.forward_features(picture)
        return model.forward_head(maps, pre_logits=True), model.forward_head(maps)

    return model, tensors, run


def spread(state):
    """Weights of the same names and shapes, made of noise."""
    floats = {name: tensor for name, tensor in state.items() if tensor.dtype == torch.float32}
    return {name: torch.from_numpy(weight(name, tuple(t.shape)).copy()) for name, t in floats.items()}


CLASSES = {
    "vit": transformers.ViTForImageClassification,
    "deit": transformers.DeiTForImageClassification,
    "dinov2": transformers.Dinov2Model,
    "dinov2_with_registers": transformers.Dinov2WithRegistersModel,
    "dinov3_vit": transformers.DINOv3ViTModel,
    "clip_vision_model": transformers.CLIPVisionModelWithProjection,
    "siglip_vision_model": transformers.SiglipVisionModel,
    "convnext": transformers.ConvNextForImageClassification,
    "convnextv2": transformers.ConvNextV2ForImageClassification,
    "resnet": transformers.ResNetForImageClassification,
}


def of_transformers(kind, args, folder):
    """As of_timm; the names in the file are those that transformers saves, not those of its modules."""
    config = transformers.AutoConfig.for_model(kind, **args, num_labels=7)
    CLASSES[kind](config).save_pretrained(folder)
    tensors = spread(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = CLASSES[kind].from_pretrained(folder).eval()

    def run(picture):
        if kind == "clip_vision_model":
            return model.vision_model(picture).pooler_output, model(picture).image_embeds
        if not hasattr(model, "classifier"):
            return model(picture).pooler_output, None
        base = getattr(model, model.base_model_prefix)(picture)
        features = base.last_hidden_state[:, 0] if kind in ("vit", "deit") else base.pooler_output
        return features.flatten(1), model(picture).logits

    return model, tensors, run


def inner_blocks(model, onnx_model):
    """Modules of two blocks, the second and the last but one where there are as many, by the names of their tensors."""
    tensors = {output for node in onnx_model.graph.node for output in node.output}
    modules = {}
    for path, module in model.named_modules():
        name = path
        for pattern, replacement in TENSORS:
            name = re.sub(pattern, replacement, name)
        if model.config.model_type == "resnet" if hasattr(model, "config") else False:
            name = re.sub(r"^stages\.(\d+)\.blocks", lambda found: f"layer{int(found[1]) + 1}", name)
        if name in tensors and re.fullmatch(BLOCK, name):
            modules[name] = module
    names = list(modules)
    if len(names) < 2:
        raise ValueError(f"it has no blocks of the names of modules: {names}")
    return {name: modules[name] for name in dict.fromkeys([names[min(1, len(names) - 2)], names[-2]])} | (
        {names[-1]: modules[names[-1]]} if len(names) == 2 else {}
    )


# From names of modules of transformers to those of tensors; names of blocks.
TENSORS = [
    (r"^(vit|deit|dinov2|model|siglip|convnext|convnextv2|resnet|vision_model)\.", ""),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)$", r"stages.\1.blocks.\2"),
    (r"^(encoder\.)?layers?\.(\d+)$", r"blocks.\2"),
]
BLOCK = r"(blocks\.\d+(\.\d+)?|stages\.\d+\.blocks\.\d+|layer\d+\.\d+)"


def check(name, architecture, args, size, program, fixtures):
    """Compares one network; returns the row of the table, and whether it is right."""
    is_timm = not name.startswith("hf-")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, tensors, run = (of_timm if is_timm else of_transformers)(architecture, args, folder)
        config = json.loads((folder / "config.json").read_text())
        expected = sum(tensor.numel() for tensor in tensors.values())
        command = [program, folder / "config.json", folder / "model.safetensors", folder / "m.onnx"]
        command += [str(size)] if size else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"| {name} | {architecture} | {done.stderr.strip()} |", False
        facts = json.loads(done.stdout)
        onnx_model = onnx.load(folder / "m.onnx")
        onnx.checker.check_model(onnx_model)
        outputs = [facts["features"]] + ([facts["head"]] if facts["head"] else [])
        inner = inner_blocks(model, onnx_model)
        outputs += inner
        del onnx_model.graph.output[:]
        onnx_model.graph.output.extend(onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), options)
    side = facts["size"]
    picture = ((noise("image", 3 * side * side) - np.float32(0.5)) * np.float32(4)).reshape(1, 3, side, side)
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
        for name, module in inner.items()
    ]
    with torch.no_grad():
        theirs = [t.numpy() for t in run(torch.from_numpy(picture)) if t is not None]
    for hook in hooks:
        hook.remove()
    blocks = [seen[name][0] if isinstance(seen[name], tuple) else seen[name] for name in inner]
    theirs += [block.numpy() for block in blocks]
    ours = session.run(outputs, {"image": picture})
    differences = []
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape, (name, a.shape, b.shape)
        differences.append(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)))
    # A picture twice as large, and a batch of two, through the same graph.
    if facts["is_size_free"]:
        pair = np.concatenate([picture, picture[..., ::-1]]).repeat(2, 2).repeat(2, 3)
    else:
        pair = np.concatenate([picture, picture[..., ::-1]])
    with torch.no_grad():
        theirs_pair = run(torch.from_numpy(pair.copy()))[0].numpy()
    ours_pair = session.run(outputs[:1], {"image": pair})[0]
    differences.append(float(np.abs(ours_pair - theirs_pair).max() / max(np.abs(theirs_pair).max(), 1e-6)))
    is_right = max(differences) <= TOLERANCE and len(ours) == len(theirs)
    # Positions of another input size are more, or fewer.
    unread = 0
    positions = [t for t in onnx_model.graph.initializer if t.name == "pos_embed"]
    if size and positions:
        learnt = next(t for key, t in tensors.items() if re.search("pos_embed|position_embedding", key))
        expected += int(np.prod(positions[0].dims)) - learnt.numel()
    if not is_timm:
        # The token of masked patches.
        unread += sum(tensor.numel() for key, tensor in tensors.items() if "mask_token" in key)
    is_right &= facts["parameters"] + unread == expected
    if fixtures:
        fixture = {
            "config": {k: v for k, v in config.items() if k in KEYS or not is_timm and k in args},
            "size": size,
            "parameters": facts["parameters"],
            "features": [float(f"{v:.7g}") for v in theirs[0].ravel()[:KEPT]],
            "head": [float(f"{v:.7g}") for v in theirs[1].ravel()[:KEPT]] if facts["head"] else [],
            "weights": {k: list(t.shape) for k, t in tensors.items()},
        }
        FIXTURES.mkdir(parents=True, exist_ok=True)
        text = json.dumps(fixture, separators=(",", ":")).replace('],"', '],\n"')
        (FIXTURES / f"{name}.json").write_text(text + "\n")
    row = f"| {name} | {architecture} | {facts['parameters']:,} | {side} | {max(differences):.1e} |"
    if facts["parameters"] + unread != expected:
        row += f" {expected - unread:,} parameters expected"
    return row, is_right


KEYS = ("architecture", "model_args", "model_type", "hidden_act", "layer_norm_eps", "downsample_in_bottleneck")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--fixtures", action="store_true", help="write the small cases as fixtures")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    cases = SMALL if args.fixtures else SMALL + WHOLE
    print("| case | network | parameters | input | largest difference |\n|---|---|--:|--:|--:|")
    failed = False
    for case in cases:
        if args.cases and case[0] not in args.cases:
            continue
        try:
            row, is_right = check(*case, args.program, args.fixtures)
        except Exception as error:
            row, is_right = f"| {case[0]} | {case[1]} | {type(error).__name__}: {error} |", False
        failed |= not is_right
        print(row + ("" if is_right else " wrong"), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
