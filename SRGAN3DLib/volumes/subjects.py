"""Whose scan is it? The subject of each scan, guessed from the names of its file and folders below the data.

One person must never be on both sides of a split, so a wrong guess is the worst fault that training data can have. The guess knows the
layouts of the common public collections, drops what names a visit, a date or a contrast, and compares all scans before it believes the
name of a file. Two people taken for one cost some data; one person taken for two spoils the validation: where names leave both open,
the guess takes the first.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from SRGAN3DLib.contract.errors import JobError

# Identifiers of people in public collections, visit excluded. Sources: the collections' own descriptions of their layout.
COLLECTIONS = (
    r"\d{3}_S_\d{4,5}",  # ADNI: 002_S_0413
    r"OAS[12]_\d{4}",  # OASIS-1 and -2: OAS1_0001_MR1
    r"OAS[34]\d{4}",  # OASIS-3 and -4: OAS30001_MR_d0129
    r"BraTS1[789]_[A-Z0-9]+_[A-Z0-9]+(?=_\d+)",  # BraTS 2017 to 2019: BraTS19_CBICA_AAB_1
    r"BraTS\d\d_(?:Training|Validation|Testing)_\d+",  # BraTS 2020: BraTS20_Training_001
    r"BraTS20\d\d_\d+",  # BraTS 2021: BraTS2021_00000
    r"TCGA-\w\w-\w{4}",
    r"[A-Z]+[0-9]*(?:-[A-Z]+)+-\d{3,6}",  # BraTS 2023 on, UPENN-GBM, UCSF-PDGM: BraTS-GLI-00005-100, UPENN-GBM-00006_11
    r"IXI\d{3}(?:-[A-Z]+-\d+)?",  # IXI002-Guys-0828-T1
    r"HC[ADP]\d{7}",  # HCP Aging and Development: HCA6002236_V1_MR
)
_COLLECTION = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(COLLECTIONS)})(?![A-Za-z])", re.I)
_BIDS = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
_HCP = re.compile(r"\d{6}(?=_(?:3T|7T|MR|V\d|T1|T2)|$)")  # 100307, 100307_3T_T1w_MPR1
_PERSON = re.compile(
    r"(?:patient|participant|subject|volunteer|proband|control|person|case|subj|sub|pat|ctrl|pt|hc|id|p|s)(?:[-_ ]?id)?[-_ ]?\d+"
    r"(?![A-Za-z0-9])",
    re.I,
)
_CONTRAST = (
    r"t1\w*|t2\w*|flair|pdw?|pdt2|dwi|dti|adc|swi|bold|angio|inplanet[12]|mp2?rage\w*|mpr[-_]?\d*|spgr|space|tse|flash|gre|tof|anat|"
    r"[137]t"
)
_VISIT = (
    r"(?:ses|session|visit|run|scan|series|study|exam|tp|timepoint|time|week|month|year|day|wk|mo|mr|acq|echo|v|m|d)[-_ ]?\d+(?:[-_]\d+)?|"
    r"baseline|bl|follow[-_]?up\d*|pre|post|(?:19|20)\d{6}|\d{4}[-_]\d\d[-_]\d\d(?:[_T .\d]*)"
)
_KIND = r"defaced|deface|brain|anon|orig|restore|bet|stripped|n4|reg\w*|acpc|dc"
_TAIL = re.compile(rf"[-_. ](?:{_CONTRAST}|{_VISIT}|{_KIND})$", re.I)
_NOBODY = re.compile(
    rf"(?:(?:{_CONTRAST})(?:[-_. ].*)?|{_VISIT}|{_KIND}|dicom|dcm|nifti|nii|nrrd|scans?|images?|volumes?|mri?|data|raw|unprocessed|"
    r"processed|structural|train(?:ing)?(?:data)?|test(?:ing)?|valid(?:ation)?|val|disc\d+|series\d*)$",
    re.I,
)

SOURCES = {
    "table": "a table says so",
    "pattern": "--subject-pattern",
    "collection": "the identifier of a public collection",
    "bids": "BIDS",
    "person": "a name with a number, such as patient01",
    "folder": "the folder's name",
    "file": "the file's name",
}


@dataclass(frozen=True)
class Subject:
    """The name of the person, and the key of `SOURCES` that tells how it was found; `problem`: why it could not be."""

    name: str
    source: str
    problem: str = ""


def check_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """The compiled `--subject-pattern`. Raises `JobError` unless it is a regular expression with one group."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise JobError(f"--subject-pattern {pattern!r}: not a regular expression ({error})") from None
    if compiled.groups != 1:
        raise JobError(
            f"--subject-pattern {pattern!r}: has {compiled.groups} groups; it must have one, around the subject, such as '(patient[0-9]+)'"
        )
    return compiled


def guess_subjects(paths: Sequence[Path], base: Path, pattern: str | None = None) -> list[Subject]:
    """The subject of each scan of `paths` (files, or folders of DICOM files), from their names below `base` only.

    Scans outside `base` (a list may name them) are looked at below the folder that all of them share. `pattern` is a regular expression
    with one group, searched in the path below `base`, with `/` between its parts. Raises `JobError` for a pattern that is none.
    """
    compiled = check_pattern(pattern)
    parts = _below(paths, base)
    if compiled is not None:
        return [_by_pattern(compiled, "/".join((*folders, name))) for folders, name in parts]
    known = [_known((*folders, name)) for folders, name in parts]
    crowded = _crowded([(folders, _stem(name)) for (folders, name), one in zip(parts, known, strict=True) if one is None])
    return [
        one or _guessed(folders, name, path.is_dir(), base.name, crowded)
        for path, (folders, name), one in zip(paths, parts, known, strict=True)
    ]


def _below(paths: Sequence[Path], base: Path) -> list[tuple[tuple[str, ...], str]]:
    """(folders below the base, the name without its ending) of each path."""
    if not all(path.is_relative_to(base) for path in paths):
        base = Path(os.path.commonpath([path.absolute().parent for path in paths]))
        paths = [path.absolute() for path in paths]
    split = []
    for path in paths:
        inside = PurePath(path.name) if path == base else path.relative_to(base)
        split.append((inside.parts[:-1], path.name if path.is_dir() else _without_ending(path.name)))
    return split


def _without_ending(name: str) -> str:
    return re.sub(r"(?:\.nii)?\.(?:nii|gz|nrrd|nhdr|mha|mhd)$", "", name, flags=re.I)


def _by_pattern(pattern: re.Pattern[str], text: str) -> Subject:
    match = pattern.search(text)
    if match is None or not match[1]:
        return Subject("", "pattern", f"--subject-pattern {pattern.pattern!r} finds no subject in {text!r}")
    return Subject(match[1], "pattern")


def _known(parts: tuple[str, ...]) -> Subject | None:
    """What one part alone tells, the topmost that does."""
    for expression, source in ((_COLLECTION, "collection"), (_BIDS, "bids")):
        for part in parts:
            if match := expression.search(part):
                return Subject(match[0], source)
    for expression, source in ((_HCP, "collection"), (_PERSON, "person")):
        for part in parts:
            if match := expression.match(part):
                return Subject(match[0], source)
    return None


def _stem(name: str) -> str:
    """The name without contrast, visit and date at its end."""
    while (shorter := _TAIL.sub("", name)) != name:
        name = shorter
    return name


def _crowded(scans: list[tuple[tuple[str, ...], str]]) -> set[tuple[str, ...]]:
    """The folders that hold a file whose name occurs in other folders, too: there the folder names the subject, not the file."""
    homes: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for folders, stem in scans:
        homes[stem].add(tuple(part for part in folders if not _NOBODY.match(part)))
    shared = {stem for stem, places in homes.items() if len(places) > 1}
    return {folders for folders, stem in scans if stem in shared}


def _guessed(folders: tuple[str, ...], name: str, dicom: bool, data: str, crowded: set[tuple[str, ...]]) -> Subject:
    """By the names alone: a file's own name, unless it names no subject; the topmost folder of a DICOM series or of crowded folders."""
    named = [part for part in (_stem(part) for part in folders) if part and not _NOBODY.match(part)]
    stem = _stem(name)
    if named and (dicom or folders in crowded):
        return Subject(named[0], "folder")
    if not _NOBODY.match(stem):
        return Subject(stem, "folder" if dicom else "file")
    return Subject(named[-1] if named else data or stem, "folder")
