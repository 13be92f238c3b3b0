"""Do a `SynthesizeJob`: files or arrays in, one image of another modality out. Called by the dispatcher only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.events import Progress, Report
from SRGAN3DLib.contract.jobs import SynthesizeJob

LoadSynthesizer = Callable[[SynthesizeJob], Any]


def load_synthesizer(job: SynthesizeJob) -> Any:
    """A `Synthesizer` for the job's model, device, precision and memory limit."""
    from SRGAN3DLib.inference.synthesizer import Synthesizer

    return Synthesizer.load(job.model, job.device, job.precision, job.memory_limit)


def synthesize(
    job: SynthesizeJob, report: Report, cancelled: Callable[[], bool], load: LoadSynthesizer, on_ready: Callable[[], None]
) -> dict[str, Any]:
    """Synthesise one image and write it whole. Returns the result's info. Raises an `SRGAN3DError`; nothing half-done is left."""
    from SRGAN3DLib.volumes.npy import read_array, write_array
    from SRGAN3DLib.volumes.volume import Volume, check_output

    target = Path(job.output)
    as_array = job.ijk_to_ras is not None and target.suffix == ".npy"
    for file in (job.input, *job.also.values()):
        if target.exists() and Path(file).exists() and target.samefile(file):
            raise JobError(f"{target}: is an input itself; give the output another name")
    if not as_array:
        check_output(target)

    def read(file: str, matrix: Any) -> Volume:
        return Volume.read(file) if matrix is None else read_array(Path(file), matrix)

    first = read(job.input, job.ijk_to_ras)  # bad input is told before the network is loaded
    others = {name: read(file, job.also_ijk_to_ras.get(name)) for name, file in job.also.items()}
    synthesizer = load(job)
    on_ready()
    name = synthesizer.names[0]
    if name in others:
        raise JobError(f"--also {name}={job.also[name]}: {name} is the model's first input, which stands alone")
    result = synthesizer(
        {name: first, **others}, on_progress=report, cancelled=cancelled, roi_ijk=job.roi_ijk, flips=job.flips,
        interpolation=job.interpolation, register=job.register,
    )  # fmt: skip
    report(Progress("writing", 0, 1))
    if as_array:
        write_array(target, result.volume.array)
    else:
        result.volume.write(target, dtype="input")
    report(Progress("writing", 1, 1))
    files = {"input": job.input, "also": dict(job.also), "output": job.output}
    return {**files, "dtype": result.volume.dtype, "ijk_to_ras": result.volume.geometry.ijk_to_ras.tolist(), **result.info}
