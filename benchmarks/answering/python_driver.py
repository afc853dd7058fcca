"""Lets one runtime of Python answer rows of code points, as `runtimes.py` asks.

Runs in the environment of that runtime, with NumPy and nothing of this project. A
request is one JSON object on standard input, and what was found one on standard output:

    {"file": ..., "kernels": "XNNPACK" | "built-in" | "CompiledModel",
     "rows": {signature: [[code point, ...], ...]}}
    {"answers": {signature: [[[code point, ...], score], ...] per row},
     "load_seconds": ..., "bytes": ...}

``bytes``: by how much opening and calling the model raises the peak of memory.
"""

import json
import sys
import time

import numpy as np

# Hypotheses that do not exist have a score below this.
NO_SCORE = -1e6


def interpreter_module():
    """Returns the module with the ``Interpreter``, whatever the package is called."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        from tflite_runtime import interpreter
    return interpreter


def open_interpreter(data, kernels):
    """Returns a function ``(signature, row) -> outputs by name``."""
    module = interpreter_module()
    resolvers = module.OpResolverType
    resolver = resolvers.AUTO
    if kernels == "built-in":
        resolver = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    opened = module.Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=resolver
    )
    runners = {}

    def call(signature, row):
        if signature not in runners:
            runners[signature] = opened.get_signature_runner(signature)
        return runners[signature](text=row)

    return call


def open_compiled(data):
    """Returns the same function of LiteRT's ``CompiledModel``."""
    from ai_edge_litert.compiled_model import CompiledModel

    opened = CompiledModel.from_buffer(data)
    buffers = {}

    def call(signature, row):
        details = opened.get_output_tensor_details(signature)
        if signature not in buffers:
            source = opened.create_input_buffer_by_name(signature, "text")
            outputs = {
                name: opened.create_output_buffer_by_name(signature, name)
                for name in details
            }
            buffers[signature] = source, outputs
        source, outputs = buffers[signature]
        source.write(row)
        opened.run_by_name(signature, {"text": source}, outputs)
        return {
            name: buffer.read(
                int(np.prod(details[name]["shape"])),
                np.int32 if name == "text" else np.float32,
            ).reshape(details[name]["shape"])
            for name, buffer in outputs.items()
        }

    return call


def begin_peak():
    """Lets the peak of memory begin anew, and returns how many bytes are used now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory_bytes("VmRSS")


def memory_bytes(key):
    """Returns a size of this process: VmRSS, that of now, or VmHWM, the peak."""
    with open("/proc/self/status") as file:
        sizes = dict(line.split(":", 1) for line in file)
    return 1024 * int(sizes[key].split()[0])


def hypotheses(outputs):
    """Returns (code points, score) of each that exists, best first."""
    found = []
    for codes, score in zip(outputs["text"], outputs["score"], strict=True):
        if score < NO_SCORE:
            break
        ends = np.flatnonzero(codes == 0)
        found.append([codes[: ends[0] if len(ends) else None].tolist(), float(score)])
    return found


def main():
    """Answers the request."""
    request = json.load(sys.stdin)
    with open(request["file"], "rb") as file:
        data = file.read()
    kernels = request["kernels"]
    if kernels == "CompiledModel":
        import ai_edge_litert.compiled_model  # noqa: F401  Loading it is no part of it.
    else:
        interpreter_module()
    before, start = begin_peak(), time.perf_counter()
    call = (
        open_compiled(data)
        if kernels == "CompiledModel"
        else open_interpreter(data, kernels)
    )
    first = next(iter(request["rows"]))
    call(first, np.array([request["rows"][first][0]], np.int32))
    load_seconds = time.perf_counter() - start
    answers = {
        signature: [
            hypotheses(call(signature, np.array([row], np.int32))) for row in rows
        ]
        for signature, rows in request["rows"].items()
    }
    report = {
        "answers": answers,
        "load_seconds": load_seconds,
        "bytes": memory_bytes("VmHWM") - before,
    }
    # The runtimes themselves may have written to standard output.
    sys.stdout.write(f"\n{json.dumps(report)}\n")


if __name__ == "__main__":
    main()
