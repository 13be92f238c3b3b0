"""The split: every scan with its role in a run. Subjects are split, never patches. RUN/split.json keeps it.

Once written, the split rules: scans that came later are not used, and a scan that went or changed stops the run before its first step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import Cancelled, JobError, VolumeError
from SRGAN3DLib.contract.strict_json import read_json
from SRGAN3DLib.volumes.files import write_text
from SRGAN3DLib.volumes.subjects import SOURCES

from .run_folder import SPLIT

NAME = SPLIT
ROLES = ("train", "validation", "skipped")
SHOWN_SUBJECTS, SHOWN_FILES = 40, 3  # of the table that is printed; split.json has all


@dataclass(frozen=True)
class Member:
    """A scan and its role: train, validation, or skipped for a `reason`. `source`: the option that named it, data or validation."""

    scan: Any  # a `Scan`, or a `Pair` of images: what has a path, name, subject, subject_source, contrast and size
    source: str
    role: str
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return (self.source, self.scan.name)

    def skipped(self, reason: str) -> Member:
        return replace(self, role="skipped", reason=reason)


class Split:
    """The members in order. `path` is the RUN's split.json; `old` holds its rows by key, None where the run begins."""

    def __init__(self, members: list[Member], path: Path, seed: int, share: float):
        self.members, self.path, self.seed, self.share = members, path, seed, share
        self.old = read_split(path) if path.exists() else None
        if self.old is None:
            self._keep_apart()
            if share:
                self._hold_out()
        else:
            self._hold_to(self.old)

    def of(self, role: str) -> list[Member]:
        return [member for member in self.members if member.role == role]

    def try_each(self, role: str, use: Callable[[Any], None], cancelled: Callable[[], bool] = lambda: False) -> None:
        """Call `use` with each scan of the role. A scan that raises is skipped with the reason, or stops a run that has used it before."""
        for index, member in enumerate(self.members):
            if member.role != role:
                continue
            if cancelled():
                raise Cancelled("stopped while the scans were read; nothing has been trained since the last saved state")
            try:
                use(member.scan)
            except VolumeError as error:
                if self.old is not None:
                    raise VolumeError(f"{error}; but this run has used it ({self.path}); give --out another folder") from None
                self.members[index] = member.skipped(str(error))

    def write(self) -> None:
        """Write split.json when a run begins. A split that exists is left as it is."""
        if self.old is not None:
            return
        rows = [
            {
                "source": member.source,
                "file": member.scan.name,
                "subject": member.scan.subject,
                "subject_from": member.scan.subject_source,
                "contrast": member.scan.contrast,
                "bytes": member.scan.size(),
                "role": member.role,
                "reason": member.reason,
            }
            for member in self.members
        ]
        subjects = {role: sorted({m.scan.subject for m in self.of(role)}) for role in ("train", "validation")}
        whole = {"seed": self.seed, "validation_share": self.share, "subjects": subjects, "files": rows}
        write_text(self.path, json.dumps(whole, indent=1) + "\n")

    def table(self) -> list[str]:
        """Lines for a person: each subject with its role, its number of scans, how its name was found, and its first files."""
        by_subject: dict[tuple[str, str], list[Member]] = {}
        for member in self.members:
            if member.role != "skipped":
                by_subject.setdefault((member.role, member.scan.subject), []).append(member)
        sources = {member.scan.subject_source for member in self.members if member.role != "skipped"} & SOURCES.keys()
        count = {role: len({m.scan.subject for m in self.of(role)}) for role in ("train", "validation")}
        found = "; ".join(SOURCES[source] for source in SOURCES if source in sources)
        lines = [
            f"{count['train']} subjects for training, {count['validation']} for validation" + (f" (known from: {found})" if found else "")
        ]
        for (role, subject), members in list(by_subject.items())[:SHOWN_SUBJECTS]:
            files = ", ".join(member.scan.name for member in members[:SHOWN_FILES])
            more = f" and {len(members) - SHOWN_FILES} more" if len(members) > SHOWN_FILES else ""
            lines.append(f"  {subject}  {role}  {files}{more}")
        if len(by_subject) > SHOWN_SUBJECTS:
            lines.append(f"  ... and {len(by_subject) - SHOWN_SUBJECTS} more subjects, in {self.path}")
        if sources & {"file", "folder", "person"}:
            lines.append("if one person stands here under two names, say --subject-pattern, or give a table with a column subject")
        return lines

    def _keep_apart(self) -> None:
        """Leave out of training each subject and each file that is in the validation set, too."""
        judges = {member.scan.subject for member in self.members if member.source == "validation"}
        files = {member.scan.path.resolve() for member in self.members if member.source == "validation"}
        for index, member in enumerate(self.members):
            if member.role == "train" and (member.scan.subject in judges or member.scan.path.resolve() in files):
                reason = f"subject {member.scan.subject!r} is in the validation set, too: left out of training"
                self.members[index] = member.skipped(f"{member.scan.path}: {reason}")

    def _hold_out(self) -> None:
        """Move whole subjects, drawn by the seed, into the validation set: as near to the share as possible, at least one on each side."""
        subjects = sorted({member.scan.subject for member in self.of("train")})
        if len(subjects) < 2:
            found = f"all scans fit for training are of {subjects[0]!r}" if subjects else "no scan is fit for training"
            say = "say --subject-pattern, name them in a CSV, or give --validation"
            raise VolumeError(f"--validation-share {self.share:g} needs two subjects; {found}: {say}")
        count = min(len(subjects) - 1, max(1, round(self.share * len(subjects))))
        chosen = set(np.random.default_rng(self.seed).permutation(subjects)[:count].tolist())
        self.members = [replace(m, role="validation") if m.role == "train" and m.scan.subject in chosen else m for m in self.members]

    def _hold_to(self, old: dict[tuple[str, str], dict[str, Any]]) -> None:
        """Take the roles from disk. Raises `VolumeError` naming the first used scan that is gone, has changed, or is not fit any more."""
        now = {member.key: member for member in self.members}
        for key, row in old.items():
            if row["role"] == "skipped":
                continue
            member, why = now.get(key), ""
            if member is None or not member.scan.size():
                why = "is gone"
            elif member.scan.size() != row["bytes"]:
                why = f"has {member.scan.size()} bytes, it had {row['bytes']}"
            elif member.role == "skipped":
                why = f"cannot be used any more ({member.reason})"
            if why:
                place = member.scan.path if member is not None else f"{row['file']} (of --{row['source']})"
                raise VolumeError(f"{place}: {why} since the run began ({self.path}); put it back, or give --out another folder")
        for index, member in enumerate(self.members):
            row = old.get(member.key, {"role": "skipped", "reason": f"{member.scan.path}: new since the run began, not used ({self.path})"})
            subject = row.get("subject", member.scan.subject)
            scan = replace(member.scan, subject=subject, subject_source=row.get("subject_from", member.scan.subject_source))
            self.members[index] = replace(member, scan=scan, role=row["role"], reason=row["reason"])


def read_split(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of a split.json by (source, file). Raises `JobError` where it is damaged."""
    remedy = "put a copy of it back, or give --out another folder"
    try:
        rows = read_json(path)["files"]
        found = {}
        for row in rows:
            texts = [row[name] for name in ("source", "file", "role", "reason")] + [
                row.get(name, "") for name in ("subject", "subject_from")
            ]
            if not all(isinstance(text, str) for text in texts) or row["role"] not in ROLES or row["source"] not in ("data", "validation"):
                raise ValueError(f"a row of role {ascii(row['role'])[:40]}")
            if not isinstance(row["bytes"], int):
                raise ValueError(f"bytes {ascii(row['bytes'])[:40]}")
            found[row["source"], row["file"]] = row
        return found
    except JobError as error:
        raise JobError(f"{path}: not a readable split ({error}); {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobError(f"{path}: not a readable split ({ascii(str(error))[:200]}); {remedy}") from None
