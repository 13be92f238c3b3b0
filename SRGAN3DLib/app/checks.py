"""The command `check`: does a model help on a scan, or on each scan of a folder?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import Cancelled
from SRGAN3DLib.contract.events import Failed, IsCancelled, Log, Progress, Report
from SRGAN3DLib.contract.jobs import CheckJob, SuperResolveJob

LoadResolver = Callable[[SuperResolveJob], Any]


def check(job: CheckJob, report: Report, cancelled: IsCancelled, load: LoadResolver, on_ready: Callable[[], None]) -> dict[str, Any]:
    """`{"scans": [...], "failed": [...]}`: a row a scan. One that cannot be read leaves the others to be checked."""
    from SRGAN3DLib.volumes.npy import read_array
    from SRGAN3DLib.volumes.scans import find_scans
    from SRGAN3DLib.volumes.volume import Volume

    if job.ijk_to_ras is not None:
        matrix = job.ijk_to_ras
        readers: dict[str, Callable[[], Volume]] = {job.input: lambda: read_array(job.input, matrix)}
    elif Path(job.input).is_dir():
        readers = {scan.name: scan.read for scan in find_scans(job.input, job.series)}
    else:
        readers = {job.input: lambda: Volume.read(job.input, job.series)}
    first = None
    if len(readers) == 1:
        first = next(iter(readers.values()))()  # bad input is told before the network is loaded
    resolver = load(SuperResolveJob("-", "-", job.model, device=job.device, precision=job.precision, memory_limit=job.memory_limit))
    on_ready()
    rows, failed = [], []
    for index, (name, read) in enumerate(readers.items()):
        report(Progress("checking", index, len(readers)))
        try:
            rows.append({"scan": name, **_check_one(job, first or read(), resolver, cancelled)})
        except Cancelled:
            raise
        except Exception as error:
            if first is not None:
                raise
            failure = Failed.of(error)
            failed.append({"input": name, "error": failure.error, "message": failure.message, "exit_code": failure.exit_code})
            report(Log(failure.message, "warning"))
    report(Progress("checking", len(readers), len(readers)))
    return {"scans": rows, "failed": failed}


def _check_one(job: CheckJob, volume: Any, resolver: Any, cancelled: IsCancelled) -> dict[str, Any]:
    from SRGAN3DLib.evaluation.self_check import self_check
    from SRGAN3DLib.inference.auto_resolver import AutoResolver
    from SRGAN3DLib.inference.fitness import fitness, fitness_to_json

    reason = None
    if isinstance(resolver, AutoResolver):
        choice = resolver.choose(volume, None)
        resolver, reason = resolver.resolver(choice), choice.reason
    found = self_check(volume, resolver, job.blur, job.noise, cancelled=cancelled)
    lines = fitness(volume, resolver.header, resolver.look(volume, job.blur, job.noise))
    return {**found.to_json(), "choice": reason, "fitness": fitness_to_json(lines)}
