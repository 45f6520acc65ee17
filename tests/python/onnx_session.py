"""Opens an ONNX file in ONNX Runtime, with inner tensors among its outputs."""

import onnx
import onnxruntime


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
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
