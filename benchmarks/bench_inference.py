"""How fast is inference?  `python benchmarks/bench_inference.py [--size 96] [--rounds 1] [--threads 1] [--out FILE.json]`

Side by side, the same weights and the same made-up scan, in turns: MONAI's SlidingWindowInferer at its defaults (windows of 64^3,
overlap 0.25) and the plain whole-volume forward, both in fp32; ours in fp32, and in bf16 where the hardware has it. Time is the
process's CPU time per thread, so that other work on the machine counts little; the least of all rounds stands. The difference is
the largest to the plain forward, as a share of its range. 96^3 voxels make MONAI's windows overlap as much as in a large volume.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from plain_network import as_written
from torch import Tensor

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.configs import preset
from SRGAN3DLib.inference import tiling
from SRGAN3DLib.inference.devices import fast_bf16
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.networks.generator import Conditions, Generator, with_conditions

SEED = 20170331
TOLD = Conditions((0.5, 0.5, 0.5), 0.02)
BARS = {("paper", "ours fp32"): 4.0, ("paper", "ours bf16"): 9.0}  # times MONAI's speed


def contenders(generator: Generator, image: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    from monai.inferers import SlidingWindowInferer

    x = torch.from_numpy(image)[None, None]
    x = with_conditions(x, generator.config, TOLD)
    inferer = SlidingWindowInferer(roi_size=(64, 64, 64))  # overlap 0.25, constant weights, batch 1: its defaults

    def plain(network: Callable[[Tensor], Tensor]) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(x)[0, 0])

    def ours(dtype: torch.dtype) -> Callable[[], np.ndarray]:
        network = CompiledGenerator(generator, dtype)
        return lambda: tiling.run(network, image, told=TOLD)[0]

    found = {
        "plain forward fp32": lambda: plain(generator),
        "MONAI fp32": lambda: plain(lambda x: inferer(x, generator)),
        "ours fp32": ours(torch.float32),
    }
    if fast_bf16(torch.device("cpu"))[0]:
        found["ours bf16"] = ours(torch.bfloat16)
    return found


def measure(name: str, size: int, rounds: int, threads: int) -> list[dict[str, object]]:
    torch.manual_seed(SEED)
    generator = as_written(Generator(preset(name)).eval())
    torch.nn.init.normal_(generator.output.weight, std=0.05)
    image = np.random.default_rng(SEED).random((size,) * 3, np.float32)
    for run in contenders(generator, image[:20, :20, :20]).values():
        run()  # libraries load their kernels
    running = contenders(generator, image)
    times: dict[str, list[tuple[float, float]]] = {who: [] for who in running}
    truth, differences = np.empty(0), {}
    for _ in range(rounds):
        for who, run in running.items():
            cpu, wall = time.process_time(), time.perf_counter()
            result = run()
            times[who].append(((time.process_time() - cpu) / threads, time.perf_counter() - wall))
            truth = result if who.startswith("plain") else truth
            differences[who] = float(np.abs(result - truth).max() / np.ptp(truth))
    best = {who: min(cpu for cpu, _ in all_times) for who, all_times in times.items()}
    rows = []
    for who, seconds in best.items():
        ratio, bar = best["MONAI fp32"] / seconds, BARS.get((name, who))
        walls = [round(wall, 2) for _, wall in times[who]]
        row = {"preset": name, "contender": who, "seconds": round(seconds, 2), "wall_seconds": walls, "times_monai": round(ratio, 2)}
        rows.append({**row, "difference": differences[who], "bar": bar})
        told = "" if bar is None else f"   bar {bar:.0f}: {'met' if ratio >= bar else 'MISSED'}"
        print(f"{name:7s}{who:20s}{seconds:9.2f} s{ratio:8.2f} x MONAI{differences[who]:11.1e}{told}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="LR voxels along each axis")
    parser.add_argument("--rounds", type=int, default=1, help="turns; the fastest stands")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--presets", nargs="+", default=["paper", "fast"], choices=["paper", "fast"])
    parser.add_argument("--out", type=Path, help="write the rows as JSON, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    import monai

    about = {"seed": SEED, "size_lr": arguments.size, "factors": [2, 2, 2], "threads": arguments.threads, "rounds": arguments.rounds}
    about |= {"SRGAN3D": __version__, "torch": torch.__version__, "monai": monai.__version__, "python": platform.python_version()}
    about |= {"cpu": torch.backends.cpu.get_cpu_capability(), "fast_bf16": fast_bf16(torch.device("cpu"))[1]}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'preset':7s}{'contender':20s}{'CPU time':>11s}{'speed':>16s}{'difference':>11s}")
    rows = [row for name in arguments.presets for row in measure(name, arguments.size, arguments.rounds, arguments.threads)]
    if arguments.out:
        arguments.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return int(any(row["bar"] is not None and row["times_monai"] < row["bar"] for row in rows))  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
