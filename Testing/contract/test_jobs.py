"""The contract: configurations, jobs and events survive JSON, and refuse what they do not know."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from SRGAN3DLib.contract.configs import (
    DegradationConfig,
    GeneratorConfig,
    TrainConfig,
    from_json,
    preset,
    read_train_config,
    to_json,
    train_config_text,
    training_preset,
)
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.contract.events import Done, Failed, Log, Progress, from_line, one_line, to_line
from SRGAN3DLib.contract.job_values import parse_bytes, parse_factors
from SRGAN3DLib.contract.jobs import (
    BlendJob,
    DemoJob,
    EvaluateJob,
    FitJob,
    Job,
    ModelsJob,
    SuperResolveJob,
    TrainJob,
    job_from_json,
    job_to_json,
)

JOBS: tuple[Job, ...] = (
    SuperResolveJob("a", "b", memory_limit="4G", roi_ijk=((0, 4), (1, 5), (2, 6))),
    EvaluateJob("m", "data", "out", ("box",)),
    DemoJob(scan="x.nii"),
    TrainJob(training_preset("paper", "data", "run")),
    BlendJob("a", "b", "c.safetensors", 0.5),
    FitJob("scan.nii", "model.safetensors", 4, 3.5, steps=9),
    ModelsJob(),
)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_jobs_round_trip(job: Job) -> None:
    assert job_from_json(json.loads(json.dumps(job_to_json(job)))) == job


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"job": "fly"}, "fly"),
        ("text", "text"),
        ({"job": "super-resolve", "input": "a", "output": "b", "speed": 9}, "unknown key 'speed'"),
        ({"job": "super-resolve", "input": "a"}, "missing key 'output'"),
        ({"job": "super-resolve", "input": 3, "output": "b"}, "input is 3"),
        ({"job": "super-resolve", "input": "", "output": "b"}, "must both be named"),
        ({"job": "super-resolve", "input": "a", "output": "b", "precision": "int4"}, "int4"),
        ({"job": "super-resolve", "input": "a", "output": "b", "like_input_dtype": 1}, "like_input_dtype is 1; it must be bool"),
        ({"job": "super-resolve", "input": "a", "output": "b", "memory_limit": 4}, "memory_limit is 4"),
        ({"job": "super-resolve", "input": "a", "output": "b", "roi_ijk": [[0, 4], [1, 5]]}, "has 2 items; it must have 3|roi_ijk is"),
        ({"job": "train", "config": {"data": "d", "out": "o", "speed": 9}}, "train.config: unknown key 'speed'"),
        ({"job": "train", "config": {"data": "d", "out": "o", "steps": 2.5}}, "config.steps is 2.5; it must be int"),
        ({"job": "train", "config": {"data": "d", "out": "o", "steps": True}}, "config.steps is True"),
        ({"job": "train", "config": {"data": "d", "out": "o", "generator": {"factors": [2, 2]}}}, "factors has 2 items; it must have 3"),
        ({"job": "train", "config": {"data": "d", "out": "o", "generator": [2]}}, "it must be an object|must be an object"),
        ({"job": "models", "name": 3}, "models.name is 3"),
        ({"job": ["super-resolve"]}, "job .'super-resolve'."),
        ({"job": None}, "choose from super-resolve, synthesize, check, evaluate, demo, train, blend, fit, models"),
        (None, "choose from"),
        ({"job": "super-resolve", "input": "a", "output": "b", "model": "m", "alpha": 0.5}, "pair FAITHFUL,SHARP"),
        ({"job": "super-resolve", "input": "a", "output": "b", "model": "m,n", "alpha": 2}, "alpha 2"),
        ({"job": "blend", "faithful": "a", "sharp": "b", "output": "c.pt"}, "end in .safetensors"),
        ({"job": "fit", "input": "a", "output": "b.safetensors", "minutes": 0}, "minutes 0"),
        ({"job": "evaluate", "model": "m", "data": "d", "out": "o", "degradations": ["fog"]}, "fog"),
    ],
)
def test_jobs_refuse(data: object, words: str) -> None:
    with pytest.raises(JobError, match=words):
        job_from_json(data)


def test_configs_round_trip_and_refuse() -> None:
    for name in ("paper", "fast"):
        config = training_preset(name, "data", "run", factors=(1, 2, 4))
        assert from_json(TrainConfig, json.loads(json.dumps(to_json(config)))) == config
    assert preset("paper") == GeneratorConfig() and training_preset("paper", "d", "r").content == "mse"
    bad = {"factors": (2, 9, 2), "features": 0, "blocks": -1, "slope": 1.0, "input_channels": 513, "upsampling": "magic", "norm": "layer"}
    for key, value in bad.items():
        with pytest.raises(JobError, match=key) as caught:
            GeneratorConfig(**{key: value})  # type: ignore[arg-type]
        assert str(value) in str(caught.value)
    for changes in ({"steps": -1}, {"steps": 0, "gan_steps": 0}, {"patch": 3}, {"batch": 0}, {"ema": 1.0}, {"save_every": 0}):
        with pytest.raises(JobError, match=next(iter(changes)).split("_")[0] if "save_every" not in changes else "interval"):
            TrainConfig("data", "run", **changes)  # type: ignore[arg-type]
    with pytest.raises(JobError, match="best"):
        preset("best")


@pytest.mark.parametrize("event", [Progress("network", 3, 12, 4.5, {"loss": 0.1}), Log("ü"), Done({"a": 1}), Failed("X", "y", 3)])
def test_events_are_one_line_each(event: object) -> None:
    line = to_line(event, job=7)  # type: ignore[arg-type]
    assert "\n" not in line and json.loads(line)["job"] == 7 and from_line(line) == event


def test_numbers_keep_their_kind() -> None:
    whole = from_json(TrainConfig, {"data": "d", "out": "o", "learning_rate": 1, "degradation": {"noise": 0}})
    assert isinstance(whole.learning_rate, float) and isinstance(whole.degradation.noise, float)
    with pytest.raises(JobError, match=r"RUN/config\.json\.seed is 'x'"):
        from_json(TrainConfig, {"data": "d", "out": "o", "seed": "x"}, "RUN/config.json")


@pytest.mark.parametrize("fwhm", [None, 1, 2.5])
def test_a_key_that_nothing_read_is_passed_over(fwhm: float | None) -> None:
    """Checkpoints and config.json of before have `degradation.fwhm`."""
    old = from_json(TrainConfig, {"data": "d", "out": "o", "degradation": {"kind": "box", "fwhm": fwhm, "noise": 0.0}})
    assert old == TrainConfig("d", "o", degradation=DegradationConfig("box")) and "fwhm" not in to_json(old)["degradation"]


NONSENSE: tuple[tuple[str, object], ...] = (
    *((name, value) for name in ("learning_rate", "gradient_clip", "ema", "mtf_error") for value in (math.nan, math.inf, -1.0)),
    *((name, 10**400) for name in ("learning_rate", "steps", "seed", "batch")),
    ("seed", -1), ("seed", 2**64), ("steps", -1), ("gan_steps", 10**12), ("patch", 10**6), ("validation_box", 0), ("r1_every", 0),
    ("learning_rate", 1e300), ("save_every", -5), ("degradation", {"noise": math.nan}), ("discriminator", {"features": 10**9}),
    ("discriminator", {"slope": math.nan}), ("generator", {"slope": math.nan}), ("generator", {"features": 10**30}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), NONSENSE, ids=lambda value: str(value)[:20])
def test_numbers_outside_their_range(name: str, value: object) -> None:
    """Also as JSON, where 1e400 is infinity and NaN a word."""
    for data in ({name: value}, json.loads(json.dumps({name: value}))):
        with pytest.raises(JobError) as caught:
            from_json(TrainConfig, {"data": "d", "out": "o", **data}, "config.json")
        assert len(str(caught.value)) < 300
    with pytest.raises(JobError):
        from_json(TrainConfig, json.loads('{"data": "d", "out": "o", "learning_rate": 1e400}'))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 10_000, "[]", '"x"', "null", '{"format_version": 3}', '{"format_version": []}'])
def test_a_configuration_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(JobError, match=r"config\.json"):
        read_train_config(tmp_path / "config.json")
    with pytest.raises(JobError, match="cannot be read"):
        read_train_config(tmp_path)


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = training_preset("paper", "d", "o")
    (tmp_path / "config.json").write_text(train_config_text(config))
    assert read_train_config(tmp_path / "config.json") == config
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))  # as format 1 was written
    assert read_train_config(tmp_path / "config.json") == config


def test_the_channels_a_network_takes() -> None:
    assert (GeneratorConfig(input_channels=2).channels, GeneratorConfig(blur_aware=True).channels) == (2, 4)


def test_one_line() -> None:
    assert one_line("  a\n\tb\r\n  c ") == "a b c" and one_line("") == ""
    assert Failed.of(JobError("a\nb")).message == "a b"


def test_unknown_keys_of_an_event_are_passed_over() -> None:
    assert from_line('{"event": "log", "message": "m", "job": 3, "new": [1]}') == Log("m")
    for line in ("", "[]", "7", '{"event": "party"}', '{"event": "failed"}', '{"event": ["log"]}', "text\nmore"):
        with pytest.raises(JobError, match="not an event") as caught:
            from_line(line)
        assert "\n" not in str(caught.value)


def test_failures_carry_class_line_and_exit_code() -> None:
    assert Failed.of(VolumeError("a\n b")) == Failed("VolumeError", "a b", 3)
    assert Failed.of(ZeroDivisionError("by zero")).exit_code == 1
    with pytest.raises(JobError, match="not an event"):
        from_line("{}")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4G", 4 << 30),
        ("1500M", 1500 << 20),
        ("2.5GiB", 5 << 29),
        ("800000K", 800000 << 10),
        ("1024", 1024),
        (" 2g ", 2 << 30),
        ("3MB", 3 << 20),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count and parse_bytes(None) is None


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "nan", "inf", "4 apples", "4GG", "1e30T", "0x10"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(JobError, match="memory limit"):
        parse_bytes(text)


def test_factors_are_given_over_ijk() -> None:
    assert parse_factors("1,2,3") == (3, 2, 1) == parse_factors("1x2x3") and parse_factors("2") == (2, 2, 2)
    for text in ("a", "", "1,2", "1,2,3,4", "2.0,2,2", "1,,2"):
        with pytest.raises(JobError, match="three whole numbers"):
            parse_factors(text)
