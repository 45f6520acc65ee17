"""Model cards, as tl reads them."""

import hashlib
import json


def lines(facts):
    """Facts as lines of TOML, without those that are None."""
    written = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        for key, value in facts.items()
        if value is not None
    }
    return "".join(f"{key} = {value}\n" for key, value in written.items())


def model_card(name, title, data, facts, tail, remark, preprocess):
    """The card of the ONNX file `<name>.onnx` with the bytes `data`, which takes N x 3 x H x W.

    `tail` is text that says where features and logits are; `remark` is a comment on `preprocess`.
    """
    head = {
        "name": name,
        "title": title,
        "file": f"{name}.onnx",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        **facts,
    }
    order = ("resize", "filter", "order", "layout", "scale", "mean", "std", "background", "reducing-gap")
    given = {"layout": "nchw", "background": [255, 255, 255], "reducing-gap": 3.0, **preprocess}
    comment = "".join(f"# {line}\n" for line in remark)
    return f"{lines(head)}{tail}\n{comment}[preprocess]\n{lines({key: given[key] for key in order})}"
