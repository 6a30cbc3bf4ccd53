"""What the scripts of this folder share: options, a model on random weights, the best time of a call, one JSON line.

A script gives `build(options, dtype)`, which returns a Work. The floor is the FLOPs of a call (counted by PyTorch) over the rate of
one matrix product that is measured in turn with it, as `kinora bench` does.
"""
import argparse
import importlib
import json
import math
import resource
import sys
import time
from typing import Callable, NamedTuple

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


class Work(NamedTuple):
    model: torch.nn.Module
    forward: Callable[[], object]
    product: tuple  # rows, columns, inner of the matrix product that makes the floor


def load(module):
    """An import that says what to do when it fails."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package may fail in many ways besides being absent
        sys.exit(f"{module} cannot be imported: {type(error).__name__}: {error}\n`make bench-peers` installs what it needs into .peers")


def made_in(dtype, make):
    """What make() gives, its weights made in the dtype, so that memory holds them once."""
    torch.set_default_dtype(dtype)
    try:
        return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def num_elements(model):
    """Of what a checkpoint holds; tied weights count once."""
    return sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())


def seconds_of(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def flops_of(forward):
    def attention(query, key, value, *_, **__):
        return sdpa_flop_count(query, key, value)

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}) as counter:
        forward()
    return counter.get_total_flops()


def best_product_seconds(product, dtype):
    """Of one product; called once a round, it runs for about 0.2 s."""
    rows, columns, inner = product
    x, w = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    once = seconds_of(lambda: F.linear(x, w))
    calls = max(1, int(0.2 / once))
    return min(once, seconds_of(lambda: [F.linear(x, w) for _ in range(calls)]) / calls)


def measure(work, dtype, repeats):
    flops = flops_of(work.forward)  # also warms up
    best = best_product = math.inf
    for _ in range(repeats):
        best = min(best, seconds_of(work.forward))
        best_product = min(best_product, best_product_seconds(work.product, dtype))
    rate = 2 * math.prod(work.product) / best_product
    return {"parameters": num_elements(work.model), "seconds": best, "gflop": flops * 1e-9, "gflops": flops / best * 1e-9,
            "gemm_gflops": rate * 1e-9, "ratio_to_gemm_floor": best / (flops / rate)}


def add_options(parser, sizes):
    for name, value in sizes.items():
        several = {"nargs": len(value)} if isinstance(value, list) else {}
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value, **several)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts, after one call that warms up")


def run(model, package, build, options, sizes):
    """Prints the line. `package` is the one whose model it is."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    with torch.inference_mode():
        result = measure(build(options, dtype), dtype, options.repeats)
    versions = {name: sys.modules[name].__version__ for name in {"torch", package} if hasattr(sys.modules.get(name), "__version__")}
    print(json.dumps({"model": model, "versions": versions, **{name: getattr(options, name) for name in sizes}, "dtype": options.dtype,
                      "threads": torch.get_num_threads(), **result,
                      "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main(doc, model, package, build, sizes):
    """A whole script. sizes: the default of each option that tells a size, a number or a list of them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, sizes)
    run(model, package, build, parser.parse_args(), sizes)
