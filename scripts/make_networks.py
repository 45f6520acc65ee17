"""Makes the small networks of crates/engine/tests/data: one of each family of timm, with random weights, and what ONNX
Runtime gives for it.

    python scripts/make_networks.py    # needs torch, timm, onnx and onnxruntime
"""

import io
import logging
import math
import pathlib
import sys
import warnings

import numpy
import onnx
import onnxruntime
import timm.models as zoo
import torch
from timm.layers import get_act_layer

FOLDER = pathlib.Path(__file__).parent.parent / "crates/engine/tests/data"
SIDE = 32


def vit(**more):
    return zoo.vision_transformer.VisionTransformer(
        **{"img_size": SIDE, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 5, **more}
    )


def eva(**more):
    return zoo.eva.Eva(
        **{"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 1,
           "num_classes": 5, **more}
    )


def metaformer(**more):
    return zoo.metaformer.MetaFormer(depths=(1, 1, 1, 1), dims=(8, 8, 32, 32), num_classes=5, **more)


FAMILIES = {
    "vit": lambda: vit(),
    "deit3": lambda: vit(no_embed_class=True, init_values=0.1, class_token=True),
    "dinov2-registers": lambda: vit(init_values=0.1, reg_tokens=2, no_embed_class=True),
    "clip": lambda: vit(pre_norm=True, act_layer=get_act_layer("quick_gelu")),
    "siglip": lambda: vit(class_token=False, global_pool="map", act_layer=get_act_layer("gelu_tanh")),
    "eva02": lambda: eva(use_rot_pos_emb=True, swiglu_mlp=True, scale_mlp=True),
    "dinov3": lambda: eva(
        use_rot_pos_emb=True, rope_type="dinov3", rope_rotate_half=True, num_reg_tokens=2, init_values=0.1,
        use_abs_pos_emb=False, qkv_bias=False,
    ),
    "beit": lambda: zoo.beit.Beit(
        img_size=SIDE, patch_size=8, embed_dim=12, depth=2, num_heads=2, mlp_ratio=2, num_classes=5,
        use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1,
    ),
    "swin": lambda: zoo.swin_transformer.SwinTransformer(
        img_size=SIDE, patch_size=4, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2), mlp_ratio=2,
        num_classes=5,
    ),
    "convnext": lambda: zoo.convnext.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 12, 12), num_classes=5),
    "convnextv2": lambda: zoo.convnext.ConvNeXt(
        depths=(1, 1, 1, 1), dims=(8, 8, 12, 12), num_classes=5, use_grn=True, ls_init_value=None
    ),
    "caformer": lambda: metaformer(
        token_mixers=[zoo.metaformer.SepConv] * 2 + [zoo.metaformer.Attention] * 2,
        norm_layers=[zoo.metaformer.LayerNorm2dNoBias] * 2 + [zoo.metaformer.LayerNormNoBias] * 2,
    ),
    "poolformer": lambda: metaformer(
        token_mixers=zoo.metaformer.Pooling, norm_layers=zoo.metaformer.GroupNorm1, mlp_act=torch.nn.GELU,
        layer_scale_init_values=0.1, res_scale_init_values=None, use_mlp_head=False, downsample_norm=None,
    ),
    "fastvit": lambda: zoo.fastvit.FastVit(
        layers=(1, 1, 1, 1), embed_dims=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2),
        token_mixers=("repmixer", "repmixer", "repmixer", "repmixer"), num_classes=5,
    ),
    "levit": lambda: zoo.levit.Levit(
        img_size=64, embed_dim=(16, 16), key_dim=8, depth=(1, 1), num_heads=(2, 2), attn_ratio=2, mlp_ratio=1, num_classes=5,
    ),
    "tiny-vit": lambda: zoo.tiny_vit.TinyVit(
        embed_dims=(8, 8, 8, 12), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), window_sizes=(4, 4, 2, 2), num_classes=5,
        mlp_ratio=2,
    ),
    "regnety": lambda: zoo.regnet.RegNet(
        zoo.regnet.RegNetCfg(w0=8, wa=13.0, wm=2.0, group_size=4, depth=4, se_ratio=0.25, stem_width=8), num_classes=5
    ),
    "edgenext": lambda: zoo.edgenext.EdgeNeXt(dims=(8, 8, 16, 16), depths=(1, 1, 2, 2), heads=(2, 2, 2, 2), num_classes=5),
}
# What the exporter that traces cannot export.
TRACED_ONLY_BY_THE_NEWER = {"eva02", "dinov3"}
# Of these, that of the newer exporter, too.
BOTH = {"vit", "siglip", "swin", "convnext"}


def image(side):
    values = [math.sin(0.37 * i) for i in range(3 * side * side)]
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, side, side)


def export(model, example, newer):
    buffer = io.BytesIO()
    if newer:
        torch.onnx.export(model, (example,), dynamo=True, opset_version=18).save(buffer)
    else:
        torch.onnx.export(model, (example,), buffer, dynamo=False, opset_version=17)
    network = onnx.load_from_string(buffer.getvalue())
    # Where the exporter was and what it thought.
    del network.metadata_props[:]
    del network.graph.metadata_props[:]
    del network.graph.value_info[:]
    network.doc_string = network.graph.doc_string = ""
    for node in network.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*network.graph.input, *network.graph.output, *network.graph.initializer]:
        del value.metadata_props[:]
    return network.SerializeToString()


def main():
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    FOLDER.mkdir(exist_ok=True)
    lines = []
    for name, make in FAMILIES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        torch.manual_seed(1)
        model = make().eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:
                with torch.no_grad():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith(("running_mean", "running_var")):
                buffer.add_(0.2 * torch.rand_like(buffer))
        example = image(64 if name in ("levit", "fastvit", "tiny-vit", "edgenext", "regnety", "caformer", "poolformer") else SIDE)
        for newer in (False, True):
            if newer and name not in BOTH | TRACED_ONLY_BY_THE_NEWER or not newer and name in TRACED_ONLY_BY_THE_NEWER:
                continue
            with torch.no_grad():
                content = export(model, example, newer)
                wanted = model(example).flatten()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            output = session.run(None, {session.get_inputs()[0].name: example.numpy()})[0].flatten()
            assert numpy.abs(output - wanted.numpy()).max() < 1e-4, name
            file = f"{name}{'-dynamo' if newer else ''}.onnx"
            (FOLDER / file).write_bytes(content)
            lines.append(" ".join([file, str(example.shape[-1]), *(f"{value:.7g}" for value in output)]))
            print(file, len(content), flush=True)
    (FOLDER / "expected.txt").write_text("\n".join(lines) + "\n")


main()
