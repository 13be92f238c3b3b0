"""The page: one file that needs nothing else, with the pictures, the figures and the warnings of the result it is about."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from grids import OBLIQUE

from SRGAN3DLib.evaluation.html_report import write_html_report
from SRGAN3DLib.inference.super_resolver import Result, SuperResolver
from SRGAN3DLib.volumes.volume import Volume


class Tags(HTMLParser):
    """Every tag, and whether all were closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tiny_model: Path, small_head: np.ndarray, tmp_path: Path) -> tuple[str, Result]:
    scan = replace(Volume.from_array(small_head, OBLIQUE), path=Path("<b>head & co.nii.gz"), notes=("a note <i>from</i> the file",))
    result = SuperResolver.load(tiny_model, "cpu", "fp32")(scan, "box")
    detail = result.volume.with_array(result.volume.array - result.volume.array.mean(), result.volume.geometry)
    write_html_report(tmp_path / "r.html", scan, Result({**result.volumes, "detail": detail}, result.info), {"verdict": "helps: +2.1 dB"})
    return (tmp_path / "r.html").read_text(encoding="utf-8"), result


def test_one_file_that_needs_nothing_else(page: tuple[str, Result]) -> None:
    text, _ = page
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and len(text) < 5_000_000
    sources = [attributes.get("src", "") for _, attributes in tags.seen if "src" in attributes]
    assert len(sources) == 9 + 3 and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://(?!www\.w3\.org)", text) and "$" not in text.split("<script>")[0]


def test_it_says_what_the_result_says(page: tuple[str, Result]) -> None:
    text, result = page
    assert "&lt;b&gt;head &amp; co.nii.gz" in text and "<b>head" not in text and "<i>from</i>" not in text
    assert "a note &lt;i&gt;from&lt;/i&gt; the file" in text
    assert f"{100 * result.info['consistency']['rms_of_range']:.2f} % of its range" in text
    assert "helps: +2.1 dB" in text and "No diagnosis may rest on it" in text and result.info["model"]["sha256"] in text
    assert 'data-overlay="detail"' in text and 'data-overlay="error"' not in text


def test_a_resampled_result_has_its_page_too(tiny_model: Path, small_head: np.ndarray, tmp_path: Path) -> None:
    scan = Volume.from_array(small_head, np.diag([1.0, 1.0, 3.0, 1.0]))
    result = SuperResolver.load(tiny_model, "cpu", "fp32")(scan, "unknown", spacing_ijk_mm=(0.7, 0.8, 1.1))
    write_html_report(tmp_path / "r.html", scan, result)
    assert "is not known, because the scan&#x27;s blur is not known" in (tmp_path / "r.html").read_text(encoding="utf-8")
