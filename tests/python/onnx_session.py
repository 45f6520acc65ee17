"""Opens an ONNX file in ONNX Runtime, with inner tensors among its outputs."""

import onnx
import onnxruntime


def exact_options():
    """Options with which sums of bytes are whole: without VNNI, two products in a row would stop at 32,767."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(path, tensors=()):
    """Returns a session on the CPU whose outputs include `tensors`; exits if the model lacks one of them."""
    model = onnx.load(path)
    produced = {name for node in model.graph.node for name in node.output}
    outputs = {output.name for output in model.graph.output}
    for tensor in tensors:
        if tensor not in produced:
            raise SystemExit(f"{path} has no tensor named {tensor}")
        if tensor not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return onnxruntime.InferenceSession(model.SerializeToString(), exact_options(), providers=["CPUExecutionProvider"])
