"""The command line on real files: results in place, bad input in one line with its exit code, nothing half-done."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from corpus import make_corpus
from grids import FINE, LEFT_HANDED, OBLIQUE, SHEARED

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig, TrainConfig, training_preset
from SRGAN3DLib.contract.strict_json import to_json
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.volumes.volume import Volume


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return untrained(tmp_path_factory.mktemp("model") / "tiny.safetensors", (2, 2, 2))


def untrained(path: Path, factors: tuple[int, int, int]) -> str:
    """A small network, told the blur."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        factors, features=4, blocks=1, norm="none", upsampling="subpixel", blur_aware=True, interpolation_residual=True
    )
    network = Generator(config)
    torch.nn.init.normal_(network.output.weight, std=0.02)
    Checkpoint(CheckpointHeader("tiny", config, spacing_range_mm=(0.5, 5.0)), network.state_dict()).save(path)
    return str(path)


def write_scan(path: Path, array: np.ndarray, matrix: np.ndarray) -> Path:
    Volume.from_array(array, matrix).write(path)
    return path


def box_by_nibabel(path: Path) -> np.ndarray:
    image = nib.load(path)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image.shape], indexing="ij")).reshape(3, -1)
    return (image.affine[:3, :3] @ corners).T + image.affine[:3, 3]


def box_by_itk(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image.GetSize()], indexing="ij")).reshape(3, -1).T
    return np.array([image.TransformContinuousIndexToPhysicalPoint(c.tolist()) for c in corners]) * (-1, -1, 1)


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED])
def test_result_lies_where_the_input_lies(small_head: np.ndarray, model: str, tmp_path: Path, extension: str, matrix: np.ndarray) -> None:
    source, target = write_scan(tmp_path / f"in{extension}", small_head, matrix), tmp_path / f"out{extension}"
    assert main(["super-resolve", str(source), str(target), "--model", model, "--device", "cpu"]) == 0
    result = Volume.read(target)
    assert result.array.shape == tuple(2 * n for n in small_head.shape)
    assert np.abs(box_by_itk(source) - box_by_itk(target)).max() < 1e-4
    if extension.startswith(".nii"):
        assert np.abs(box_by_nibabel(source) - box_by_nibabel(target)).max() < 1e-4
        assert np.abs(box_by_nibabel(target) - box_by_itk(target)).max() < 1e-4


def test_sheared_matrix_is_kept(small_head: np.ndarray, model: str, tmp_path: Path) -> None:
    source, target = write_scan(tmp_path / "in.nii.gz", small_head, SHEARED), tmp_path / "out.nii.gz"
    assert main(["super-resolve", str(source), str(target), "--model", model, "--device", "cpu"]) == 0
    assert np.abs(box_by_nibabel(source) - box_by_nibabel(target)).max() < 1e-4


def test_json_says_what_was_asked_and_done(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, target = write_scan(tmp_path / "in.nii.gz", small_head, OBLIQUE), tmp_path / "out.nii.gz"
    options = ["--model", model, "--blur", "kspace", "--device", "cpu", "--precision", "fp32", "--json", "--quiet"]
    assert main(["super-resolve", str(source), str(target), *options]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["asked"] == {"device": "cpu", "precision": "fp32", "memory_limit": None, "blur": "kspace", "noise": "auto"}
    assert info["precision"] == "fp32" and info["blur"]["source"] == "given" and info["blur"]["mtf_kji"] == [1.0, 1.0, 1.0]
    assert info["factors_kji"] == [2, 2, 2] and len(info["model"]["sha256"]) == 64 and info["output"] == str(target)


def test_number_types_of_the_output(small_head: np.ndarray, model: str, tmp_path: Path) -> None:
    source = tmp_path / "in.nii.gz"
    nib.save(nib.Nifti1Image(np.clip(small_head.T / 3, 0, 255).astype(np.uint8), OBLIQUE), source)
    assert main(["super-resolve", str(source), str(tmp_path / "a.nii.gz"), "--model", model, "--like-input-dtype"]) == 0
    assert main(["super-resolve", str(source), str(tmp_path / "b.nii.gz"), "--model", model, "--dtype", "float32"]) == 0
    assert main(["super-resolve", str(source), str(tmp_path / "c.nii.gz"), "--model", model]) == 0
    assert nib.load(tmp_path / "c.nii.gz").get_data_dtype() in (np.uint8, np.int16)  # auto: as the input, or the next wider one
    whole, real = nib.load(tmp_path / "a.nii.gz"), nib.load(tmp_path / "b.nii.gz")
    assert whole.get_data_dtype() == np.uint8 and real.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(whole.dataobj), np.clip(np.rint(real.get_fdata()), 0, 255))


def test_batch_goes_on_after_a_failure(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    write_scan(folder / "a.nii.gz", small_head, OBLIQUE)
    (folder / "b.nii.gz").write_bytes(b"no scan")
    write_scan(folder / "c.nrrd", small_head[:20], OBLIQUE)
    assert main(["super-resolve", str(folder), str(tmp_path / "out"), "--model", model]) == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "a.nii.gz", "c.json", "c.nrrd"]
    printed = capsys.readouterr()
    assert "2 done, 1 failed" in printed.out and "b.nii.gz" in printed.out


def test_bad_volumes(model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Every bad input ends in exit code 3 with one line that names it, within 5 s, and leaves no file."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bad = make_corpus(corpus)
    assert len(bad) >= 25
    out = tmp_path / "out"
    out.mkdir()
    for case in bad:
        begun = time.monotonic()
        code = main(["super-resolve", str(case.path), str(out / "out.nii.gz"), "--model", model])
        printed = capsys.readouterr().err
        if not (case.path.is_dir() and "no volume" in printed):  # an empty folder is a batch of nothing
            assert case.words in printed, case.path
        assert code == 3 and str(case.path) in printed and "Traceback" not in printed, (case.path, code, printed)
        assert len(printed.strip().splitlines()) == 1, printed
        assert time.monotonic() - begun < 5 and not any(out.iterdir()), case.path


def test_bad_checkpoints(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = write_scan(tmp_path / "in.nii.gz", small_head, OBLIQUE)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pickle.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(Path(model).read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("hello, world: these are no weights at all")
    for name, words in (("pickle", "pickle"), ("cut", "truncated"), ("text", "not a .safetensors"), ("absent", "no such file")):
        target = tmp_path / "out.nii.gz"
        assert main(["super-resolve", str(source), str(target), "--model", str(tmp_path / f"{name}.safetensors")]) == 4
        printed = capsys.readouterr().err
        assert words in printed and f"{name}.safetensors" in printed and len(printed.strip().splitlines()) == 1
        assert not target.exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--memory-limit", "20M"], 5, "memory"),
        (["--memory-limit", "lots"], 2, "lots"),
        (["--blur", "fog"], 2, "fog"),
        (["--device", "cuda:7"], 5, "cuda:7"),
        (["--device", "toaster"], 5, "toaster"),
    ],
)
def test_bad_options(
    small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], code: int, words: str
) -> None:
    source, target = write_scan(tmp_path / "in.nii.gz", small_head, OBLIQUE), tmp_path / "out.nii.gz"
    assert main(["super-resolve", str(source), str(target), "--model", model, *options]) in (code, 2)
    printed = capsys.readouterr().err
    assert words in printed and len(printed.strip().splitlines()) == 1 and not target.exists()


@pytest.mark.parametrize("target", ["in.nii.gz", "absent/out.nii.gz", "out.jpg", "out.mhd"])
def test_bad_outputs(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture, target: str) -> None:
    source = write_scan(tmp_path / "in.nii.gz", small_head, OBLIQUE)
    before = source.read_bytes()
    assert main(["super-resolve", str(source), str(tmp_path / target), "--model", model]) in (2, 3)
    assert target.split("/")[0] in capsys.readouterr().err
    assert source.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["in.nii.gz"]


def test_usage_errors() -> None:
    for words in ([], ["super-resolve"], ["fly"], ["super-resolve", "a", "b", "--precision", "int4"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2


def test_ctrl_c_leaves_nothing(model: str, tmp_path: Path) -> None:
    """SIGINT in mid-run: exit code 130, one line, no file under the final name nor a temporary one."""
    rng = np.random.default_rng(0)
    write_scan(tmp_path / "in.nii", rng.normal(100, 20, (160, 160, 160)).astype(np.float32), OBLIQUE)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "SRGAN3DLib", "super-resolve", str(tmp_path / "in.nii"), str(out / "out.nii.gz"), "--model", model]

    def heed() -> None:
        """As at a terminal: a shell's background jobs ignore SIGINT, and so would be the suite's children."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], preexec_fn=heed)
    assert child.stderr is not None
    while "network" not in child.stderr.readline():  # it has begun to compute
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, printed = child.communicate(timeout=60)
    assert child.returncode == 130 and "cancelled" in printed and "Traceback" not in printed
    assert not any(out.iterdir())


def test_help_is_quick() -> None:
    """`--help` stays under 0.3 s of CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "SRGAN3DLib", "--help"], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "super-resolve" in done.stdout and "130 cancelled" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_models_shows_a_card(model: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["models", model]) == 0
    assert "tiny: 2 x 2 x 2" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_evaluate_writes_its_report(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_scan(data / "head.nii.gz", small_head, FINE)
    write_scan(data / "thick.nii.gz", small_head, OBLIQUE)
    out = tmp_path / "report"
    command = ["evaluate", "--model", model, "--data", str(data), "--degradation", "gaussian,kspace", "--out", str(out)]
    assert main([*command, "--blur", "known"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [row["degradation"] for row in report["scans"]] == ["gaussian", "kspace"] and len(report["sha256"]) == 64
    assert (out / "head_gaussian.png").stat().st_size > 10_000 and "| head.nii.gz | gaussian |" in (out / "report.md").read_text()
    assert not any(row["blur_told_wrongly"] for row in report["scans"]) and all(row["axes_kji"] == [0, 1, 2] for row in report["scans"])
    assert len(report["failed"]) == 1 and "thick.nii.gz: ground truth along J, I only" in report["failed"][0]
    assert main([*command, "--blur", "box", "--no-panels"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert all(row["blur_told_wrongly"] for row in report["scans"]) and "told blur box, degraded by gaussian" in capsys.readouterr().err


def test_evaluate_with_noise(small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A row for each blur and noise; the same seed draws the same noise; what the model is told is told."""
    scan = write_scan(tmp_path / "head.nii.gz", small_head, FINE)
    command = ["evaluate", "--model", model, "--data", str(scan), "--degradation", "box", "--noise", "0,20%", "--out"]
    assert main([*command, str(tmp_path / "one"), "--seed", "3", "--noise-told", "known"]) == 0
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    clean, noisy = report["scans"]
    assert (clean["noise_percent"], noisy["noise_percent"]) == (0, 20) and set(report["mean"]) == {"box", "box + 20 % noise"}
    assert clean["noise"]["percent"] == 0 and 15 < noisy["noise"]["percent"] < 30 and noisy["noise"]["source"] == "given"
    assert noisy["table"]["cubic"]["psnr"] < clean["table"]["cubic"]["psnr"] and noisy["table"]["smoothed"]["sigma"] > 0
    assert "| head.nii.gz | box + 20 % noise |" in (tmp_path / "one" / "report.md").read_text()
    assert (tmp_path / "one" / "head_box_20noise.png").exists()
    for seed, same in (("3", True), ("4", False)):
        assert main([*command, str(tmp_path / seed), "--seed", seed, "--no-panels", "--quiet"]) == 0
        again = json.loads((tmp_path / seed / "report.json").read_text())["scans"][1]
        assert (again["table"]["cubic"] == noisy["table"]["cubic"]) is same and again["noise"]["source"] == "estimated"
    capsys.readouterr()
    for words in ("much", "0,60", ""):
        assert main([*command[:-2], words, "--out", str(tmp_path / "none")]) == 2
    assert "noise" in capsys.readouterr().err


def test_a_slice_model_is_scored_along_a_true_axis(small_head: np.ndarray, tmp_path: Path) -> None:
    """K is thick: J takes its place, and the figures are those of the scan transposed beforehand."""
    model = untrained(tmp_path / "slices.safetensors", (2, 1, 1))
    volume = Volume.from_array(small_head, OBLIQUE)
    volume.write(tmp_path / "thick.nii.gz")
    volume.permute((1, 0, 2)).write(tmp_path / "turned.nii.gz")
    rows = []
    for name in ("thick", "turned"):
        command = ["evaluate", "--model", model, "--data", str(tmp_path / f"{name}.nii.gz"), "--degradation", "box", "--no-panels"]
        assert main([*command, "--out", str(tmp_path / name), "--quiet"]) == 0
        rows += json.loads((tmp_path / name / "report.json").read_text())["scans"]
    assert [row["axes_kji"] for row in rows] == [[1], [0]] and rows[0]["table"] == rows[1]["table"]


def test_train_takes_a_csv_and_keeps_a_share_of_it(
    small_head: np.ndarray, model: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("anna", "bert"):
        write_scan(tmp_path / f"{name}.nii.gz", small_head, FINE)
    (tmp_path / "c.csv").write_text("file\nanna.nii.gz\nbert.nii.gz\ngone.nii.gz\n")
    run = tmp_path / "run"
    options = "--validation-share 0.5 --init none.safetensors --steps 1 --gan-steps 0 --batch 1 --patch 8 --device cpu --precision fp32"
    command = ["train", "--data", str(tmp_path / "c.csv"), "--out", str(run), *options.replace("none.safetensors", model).split()]
    base = json.loads(json.dumps(to_json(TrainConfig("d", "o", generator=Checkpoint.load(model).header.generator, validation_box=24))))
    (tmp_path / "base.json").write_text(json.dumps(base))
    assert main([*command, "--config", str(tmp_path / "base.json")]) == 0
    assert "skipped gone.nii.gz" in capsys.readouterr().err
    roles = {row["file"]: row["role"] for row in json.loads((run / "split.json").read_text())["files"]}
    assert sorted(roles.values()) == ["skipped", "train", "validation"] and roles["gone.nii.gz"] == "skipped"
    assert main([*command, "--config", str(tmp_path / "base.json"), "--validation", str(tmp_path)]) == 2
    assert "one of them, not both" in capsys.readouterr().err
    trained = next(name for name, role in roles.items() if role == "train")
    (tmp_path / trained).unlink()
    assert main([*command, "--config", str(tmp_path / "base.json")]) == 3
    printed = capsys.readouterr().err.strip().splitlines()
    assert f"{trained}: is gone since the run began" in printed[-1] and len(printed) == 1


def test_demo_on_a_file(small_head: np.ndarray, model: str, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "head.nii.gz", small_head, LEFT_HANDED)
    assert main(["demo", "--scan", str(scan), "--out", str(tmp_path / "demo"), "--model", model]) == 0
    files = {p.name for p in (tmp_path / "demo").iterdir()}
    assert files == {"LR.nii.gz", "SR.nii.gz", "HR.nii.gz", "comparison.png", "report.md"}
    assert Volume.read(tmp_path / "demo" / "SR.nii.gz").geometry.box_distance_mm(Volume.read(scan).geometry) < 1e-4


def test_blend_and_a_pair(model: str, tmp_path: Path, small_head: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """`blend` then super-resolve is super-resolve with the pair; the info names both; what cannot be blended is refused."""
    checkpoint = Checkpoint.load(model)
    sharp, blended = str(tmp_path / "sharp.safetensors"), str(tmp_path / "blended.safetensors")
    Checkpoint(checkpoint.header, {name: 1.5 * t for name, t in checkpoint.tensors.items()}).save(sharp)
    scan = str(write_scan(tmp_path / "in.nii.gz", small_head[:12, :14, :16], OBLIQUE))
    assert main(["blend", model, sharp, "--alpha", "0.25", "-o", blended, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["faithful"]["sha256"] == checkpoint.sha256 and said["sharp"]["file"] == "sharp.safetensors" and said["alpha"] == 0.25
    header = Checkpoint.load(blended).header
    assert header.name == "blended" and header.metrics == {} and header.training["blend"]["alpha"] == 0.25
    run = ["super-resolve", scan, "--device", "cpu", "--precision", "fp32", "--quiet", "--json"]
    assert main([*run[:2], str(tmp_path / "one.nii"), *run[2:], "--model", blended]) == 0
    capsys.readouterr()
    assert main([*run[:2], str(tmp_path / "two.nii"), *run[2:], "--model", f"{model},{sharp}", "--alpha", "0.25"]) == 0
    info = json.loads(capsys.readouterr().out)["model"]
    assert info["blend"]["sharp"] == said["sharp"] and info["blend"]["faithful"]["name"] == "tiny"
    assert info["file"] == "tiny.safetensors,sharp.safetensors"
    assert np.array_equal(Volume.read(tmp_path / "one.nii").array, Volume.read(tmp_path / "two.nii").array)
    assert main([*run[:2], str(tmp_path / "three.nii"), *run[2:], "--model", model, "--alpha", "0.25"]) == 2
    assert main([*run[:2], str(tmp_path / "three.nii"), *run[2:], "--model", f"{model},{sharp}"]) == 4
    other = GeneratorConfig(factors=(1, 2, 2), features=4, blocks=1, norm="none", upsampling="subpixel", blur_aware=True)
    Checkpoint(CheckpointHeader("other", other), Generator(other).state_dict()).save(sharp)
    capsys.readouterr()
    assert main(["blend", model, sharp, "-o", str(tmp_path / "none.safetensors")]) == 4
    assert "factors is [2, 2, 2], but [1, 2, 2]" in capsys.readouterr().err and not (tmp_path / "none.safetensors").exists()


def test_every_rate_and_weight_of_training_has_an_option() -> None:
    """What is given wins over the preset and over --config; what is not keeps its value."""
    from SRGAN3DLib.app.cli import parser
    from SRGAN3DLib.app.training_options import RATES_AND_WEIGHTS

    values = {name: round(0.01 * (1 + index), 2) for index, name in enumerate(RATES_AND_WEIGHTS)}
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--discriminator-features", "32"]
    args = parser().parse_args(["train", "--data", "d", "--out", "o", "--preset", "large", "--precision", "fp16", *words])
    config = args.make(args).config
    assert {name: getattr(config, name) for name in values} == values
    assert (config.generator.features, config.generator.blocks, config.precision) == (40, 10, "fp16")
    assert config.discriminator == DiscriminatorConfig(features=32)
    plain = parser().parse_args(["train", "--data", "d", "--out", "o"])
    assert plain.make(plain).config == training_preset("fast", "d", "o")


@pytest.mark.parametrize("words", ["--label-smoothing 0.6", "--r1-weight -1", "--unknown-blur 2", "--ema 1", "--gradient-clip 0"])
def test_a_rate_or_weight_without_sense(words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *words.split()]) == 2
    name, value = words.split()
    assert f"{name[2:].replace('-', '_')} {float(value)}: " in capsys.readouterr().err and not (tmp_path / "run").exists()
