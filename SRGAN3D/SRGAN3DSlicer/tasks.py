"""What to do with a scan, in the user's words, and the plan that follows: which model, along which axes, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.jobs import DEFAULT_MODEL
from SRGAN3DLib.contract.model_choice import Spacing, choose_model, resampled_shape, wanted_spacing

from .placement import Factors, placed_factors, thins_slices, too_fine

AUTO, ISOTROPIC, THIN, OTHER, SYNTHESIS = "auto", "isotropic", "thin", "other", "synthesis"
Headers = Mapping[str, CheckpointHeader]


@dataclass(frozen=True)
class Plan:
    """`key` names the model. `spacing` is that of a job: None keeps the model's own grid. Tuples are along I, J, K."""

    key: str
    header: CheckpointHeader
    factors: Factors
    spacing: str | None = None
    reason: str = ""

    def shape_kji(self, shape_kji: Factors, spacing_ijk: Spacing) -> Factors:
        """Voxels of the result."""
        shape = tuple(n * f for n, f in zip(shape_kji, reversed(self.factors), strict=True))
        if self.spacing is None:
            return shape
        fine = tuple(s / f for s, f in zip(spacing_ijk, self.factors, strict=True))
        return tuple(reversed(resampled_shape(tuple(reversed(shape)), fine, wanted_spacing(self.spacing, spacing_ijk))))

    def result_spacing(self, shape_kji: Factors, spacing_ijk: Spacing) -> Spacing:
        """Of the result in mm, which fills the same box as the scan."""
        new = self.shape_kji(shape_kji, spacing_ijk)
        return tuple(s * n / m for s, n, m in zip(spacing_ijk, reversed(shape_kji), reversed(new), strict=True))


def choices(headers: Headers) -> dict[str, str]:
    """Ids and words of what can be done with these models."""
    every, headers = headers, for_super_resolution(headers)
    found = {AUTO: _("Automatic")}
    alike = sorted({header.generator.factors[0] for header in headers.values() if len(set(header.generator.factors)) == 1})
    found |= {f"x{factor}": _("Super-resolve x{factor} in all directions").format(factor=factor) for factor in alike if factor > 1}
    if any(thins_slices(header) for header in headers.values()):
        found[THIN] = _("Thin the slices")
    if headers:
        found[ISOTROPIC] = _("Make the voxels cubic")
    found[OTHER] = _("Other model...")
    return found | ({SYNTHESIS: _("Synthesize another contrast...")} if len(every) > len(headers) else {})


def for_super_resolution(headers: Headers) -> dict[str, CheckpointHeader]:
    return {key: header for key, header in headers.items() if header.task == "super-resolution"}


def for_synthesis(headers: Headers) -> dict[str, CheckpointHeader]:
    return {key: header for key, header in headers.items() if header.task == "synthesis" and header.output is not None and header.inputs}


def plan(task: str, by_hand: str, headers: Headers, spacing_ijk: Spacing, directions: Sequence[str] = ("R", "A", "S")) -> Plan | None:
    """The plan for one volume; None where no model is there. `by_hand` is the key of the model for the tasks "other" and "synthesis"."""
    if task == SYNTHESIS:
        return _synthesis_plan(by_hand, for_synthesis(headers), spacing_ijk, directions)
    headers = for_super_resolution(headers)
    shipped = {key: header for key, header in headers.items() if key == header.name} or dict(headers)
    if not headers:
        return None
    if task == OTHER and by_hand in headers:
        header = headers[by_hand]
        factors = placed_factors(header, spacing_ijk)
        return Plan(by_hand, header, factors, reason=in_words(header.name, factors, spacing_ijk, directions))
    if task == THIN:
        key = _slice_model(shipped, spacing_ijk)
        factors = placed_factors(headers[key], spacing_ijk)
        return Plan(key, headers[key], factors, reason=in_words(headers[key].name, factors, spacing_ijk, directions))
    wanted = wanted_spacing(ISOTROPIC, spacing_ijk) if task == ISOTROPIC else None
    choice = choose_model(shipped, spacing_ijk, wanted, (int(task[1:]),) * 3 if task[:1] == "x" else None)
    header = headers[choice.name]
    reason = in_words(header.name, choice.factors_ijk, spacing_ijk, directions)
    if wanted is not None:
        reason = _("{name}, then resampled to voxels of {size:.3g} mm.").format(name=header.name, size=min(spacing_ijk))
    return Plan(choice.name, header, choice.factors_ijk, ISOTROPIC if wanted is not None else None, reason)


def _synthesis_plan(key: str, headers: Headers, spacing_ijk: Spacing, directions: Sequence[str]) -> Plan | None:
    """The factors of a synthesis model lie along R, A, S, and not along the axes of the array as they come."""
    if key not in headers:
        return None
    header = headers[key]
    own = dict(zip("SAR", header.generator.factors, strict=True))
    factors = tuple(own[direction] for direction in directions)
    inputs = _(" and ").join(image.name for image in header.inputs)
    reason = _("{name}: makes {output} from {inputs}.").format(name=header.name, output=header.output.contrast, inputs=inputs)
    return Plan(key, header, factors, reason=reason)


def _slice_model(headers: Headers, spacing_ijk: Spacing) -> str:
    """The model for slices that brings the voxels nearest to cubes; the smallest factor where all make the slices much too thin."""
    placed = {key: placed_factors(header, spacing_ijk) for key, header in headers.items() if thins_slices(header)}
    fit = {key: factors for key, factors in placed.items() if not too_fine(factors, spacing_ijk)}

    def distance(key: str) -> float:
        new = [s / f for s, f in zip(spacing_ijk, placed[key], strict=True)]
        return max(new) / min(new)

    return min(fit, key=distance) if fit else min(placed, key=lambda key: max(placed[key]))


def in_words(name: str, factors: Factors, spacing_ijk: Sequence[float], directions: Sequence[str]) -> str:
    """What the model does, in one line. `directions` are those of the axes I, J, K, as in `mrml.directions`."""
    refined = [axis for axis, factor in enumerate(factors) if factor > 1]
    if len(refined) == 1:
        before, after = spacing_ijk[refined[0]], spacing_ijk[refined[0]] / factors[refined[0]]
        text = _("{name}: slices along {direction}, {before:.3g} mm apart, become {after:.3g} mm.")
        return text.format(name=name, direction=direction_words()[directions[refined[0]]], before=before, after=after)
    if len(set(factors)) == 1:
        return _("{name}: {factor} times as many voxels in every direction.").format(name=name, factor=factors[0])
    shown = ", ".join(f"{direction} x{factor}" for direction, factor in zip(directions, factors, strict=True))
    return f"{name}: {shown}."


def direction_words() -> dict[str, str]:
    return {"R": _("R (left-right)"), "A": _("A (back-front)"), "S": _("S (foot-head)")}


def in_order(headers: dict[str, CheckpointHeader]) -> dict[str, CheckpointHeader]:
    """The default first, then the other shipped ones of all directions, then those for slices, then the added ones."""

    def rank(key: str) -> tuple[Any, ...]:
        header = headers[key]
        return key != DEFAULT_MODEL, key != header.name, thins_slices(header), max(header.generator.factors), key

    return {key: headers[key] for key in sorted(headers, key=rank)}
