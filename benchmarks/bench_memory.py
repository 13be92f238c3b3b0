"""Does a memory limit hold, and does it leave the answer alone?  `python benchmarks/bench_memory.py [--out FILE.json]`

Each row runs in a process of its own, fp32 on the CPU, made-up noise for a scan, seed fixed: the network with a memory limit, peak
resident memory as the operating system counts it, and the largest difference to the first limit's result as a share of its range.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROWS = (  # preset, (K, J, I), limits
    ("fast", (160, 160, 160), ("8G", "2G", "1500M")),
    ("paper", (160, 160, 160), ("8G", "2G", "1500M")),
    ("fast", (180, 256, 256), ("4G",)),
    ("paper", (180, 256, 256), ("4G",)),
)
SEED = 20170331


def run_one(preset_name: str, shape_kji: tuple[int, ...], limit: str, out: Path) -> dict[str, object]:
    """In the child: super-resolve under the limit, write the result to `out`."""
    import numpy as np
    import torch

    from SRGAN3DLib.contract.configs import preset
    from SRGAN3DLib.contract.job_values import parse_bytes
    from SRGAN3DLib.inference import memory, tiling
    from SRGAN3DLib.networks.compiled import CompiledGenerator
    from SRGAN3DLib.networks.generator import Conditions, Generator
    from SRGAN3DLib.physics.intensity import IntensityScale

    torch.manual_seed(SEED)
    generator = Generator(preset(preset_name)).eval()
    torch.nn.init.normal_(generator.output.weight, std=0.05)
    network = CompiledGenerator(generator)
    image = np.random.default_rng(SEED).random(shape_kji, np.float32)
    start = time.perf_counter()
    result, info = tiling.run(
        network, image, told=Conditions((0.5, 0.5, 0.5), 0.02), scale=IntensityScale(0.01, 0.9), memory_limit=parse_bytes(limit)
    )
    seconds, peak = time.perf_counter() - start, memory.peak_bytes()
    np.save(out, result)
    return {"peak_bytes": peak, "limit_bytes": parse_bytes(limit), "pieces": info.pieces, "seconds": round(seconds, 1)}


def child(preset_name: str, shape_kji: tuple[int, ...], limit: str, out: Path) -> dict[str, object]:
    arguments = ["--child", preset_name, ",".join(map(str, shape_kji)), limit, str(out)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{preset_name} {shape_kji} {limit}: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def difference(first: Path, second: Path) -> float:
    """Largest absolute difference as a share of the first's range, plane by plane."""
    import numpy as np

    a, b = np.load(first, mmap_mode="r"), np.load(second, mmap_mode="r")
    return float(max(np.abs(x - y).max() for x, y in zip(a, b, strict=True)) / (a.max() - a.min()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the rows as JSON, too")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, shape, limit, out = arguments.child
        print(json.dumps(run_one(name, tuple(map(int, shape.split(","))), limit, Path(out))))
        return 0
    rows, held = [], True
    print(
        f"{'preset':8s}{'input (I, J, K)':>18s}{'limit MiB':>11s}{'peak MiB':>10s}{'pieces':>8s}{'seconds':>9s}{'difference / range':>20s}"
    )
    for name, shape_kji, limits in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            results = [Path(folder) / f"{limit}.npy" for limit in limits]
            for limit, out in zip(limits, results, strict=True):
                row = child(name, shape_kji, limit, out)
                row |= {"preset": name, "shape_kji": shape_kji, "difference": difference(results[0], out)}
                held &= row["peak_bytes"] <= row["limit_bytes"] and row["difference"] <= 1e-5  # type: ignore[operator]
                rows.append(row)
                peak, most = (f"{row[key] / 2**20:.0f}" for key in ("peak_bytes", "limit_bytes"))  # type: ignore[operator]
                size = " x ".join(map(str, reversed(shape_kji)))
                print(
                    f"{name:8s}{size:>18s}{most:>11s}{peak:>10s}{row['pieces']:>8}{row['seconds']:>9}{row['difference']:>20.1e}", flush=True
                )
    if arguments.out:
        arguments.out.write_text(json.dumps({"seed": SEED, "rows": rows}, indent=1) + "\n")
    print("every limit held, every result the same" if held else "a limit was broken or a result differs")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
