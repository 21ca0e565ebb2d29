"""Malicious pickles: each is refused by the name of what it asks for, and nothing happens."""

import builtins
import collections
import copyreg
import io
import os
import pickle
import subprocess
import sys

import pytest
import torch

from fastgan.errors import UserError
from fastgan.integrations.stylegan import pickled, read_pickle

MARK = "was-executed"
COMMAND = f"touch {MARK}"
CODE = f"open({MARK!r}, 'w').close()"


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Afterwards no file was written, no module that a file names was imported and no class or function changed."""
    monkeypatch.chdir(tmp_path)
    attributes = {id(f): dict(vars(f)) for f in pickled.FUNCTIONS.values()}
    classes = {c: set(vars(c)) for c in (pickled.Network, pickled.Global, pickled.Dtype, pickled.Array)}
    yield
    assert not os.path.exists(MARK)
    assert "this" not in sys.modules
    assert attributes == {id(f): dict(vars(f)) for f in pickled.FUNCTIONS.values()}
    assert classes == {c: set(vars(c)) for c in classes}
    assert not hasattr(collections.OrderedDict, "planted")


def refused(data, name):
    with open("file.pkl", "wb") as file:
        file.write(data)
    with pytest.raises(UserError) as caught:
        read_pickle("file.pkl")
    assert name in str(caught.value), str(caught.value)
    assert "nothing was executed" in str(caught.value)


def reducing(function, *arguments, state=None):
    """An object whose pickle calls a function."""

    class Evil:
        def __reduce__(self):
            return (function, arguments) if state is None else (function, arguments, state)

    return Evil()


def text(value):
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def named(module, name):
    """Pushes a name, which may have dots."""
    return text(module) + text(name) + b"\x93"


HEAD = b"\x80\x04"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, (COMMAND,), f"{os.system.__module__}.system"),
        (builtins.eval, (CODE,), "builtins.eval" ),
        (builtins.exec, (CODE,), "builtins.exec"),
        (subprocess.Popen, (["touch", MARK],), "subprocess.Popen"),
        (subprocess.check_output, (["touch", MARK],), "subprocess.check_output"),
        (builtins.getattr, (os, "system"), "getattr"),
        (builtins.__import__, ("this",), "__import__"),
        (torch.load, ("file.pkl",), "torch.serialization.load"),
        (torch.hub.load, ("a/b", "c"), "torch.hub.load"),
        (torch.save, (1, MARK), "torch.serialization.save"),
        (torch.nn.Linear, (2, 3), "torch.nn.modules.linear.Linear"),
        (torch.jit.load, (MARK,), "torch.jit"),
        (open, (MARK, "w"), "open"),
        (pickle.loads, (b"N.",), "_pickle.loads"),
        (copyreg._reconstructor, (object, object, None), "copyreg._reconstructor"),
    ],
)  # fmt: skip
def test_functions(function, arguments, name, protocol):
    if function is builtins.getattr:
        arguments = ("os", "system")
    refused(pickle.dumps({"G_ema": reducing(function, *arguments)}, protocol, fix_imports=False), name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "path.os.system"),
        ("torch", "os.system"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("torch_utils.persistence", "_reconstruct_persistent_obj.__globals__"),
        ("torch.storage", "_load_from_bytes.__class__"),
        ("dnnlib.tflib.network", "Network"),
        ("builtins", "set.__reduce__"),
        ("fastgan.integrations.stylegan.pickled", "FUNCTIONS"),
    ],
)
def test_traversal_of_attributes(module, name):
    refused(HEAD + named(module, name) + b".", f"{module}.{name}")
    refused(HEAD + named(module, name) + text(COMMAND) + b"\x85R.", f"{module}.{name}")


def test_tensorflow_networks_say_so():
    refused(HEAD + named("dnnlib.tflib.network", "Network") + b")\x81.", "a TensorFlow network: convert it first")


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("torch._utils", "_rebuild_tensor_v2", ("file", 0, (1,), (1,), False, {})),
        ("torch._utils", "_rebuild_tensor_v2", (1,)),
        ("torch._utils", "_rebuild_parameter", ("text", False, {})),
        ("torch.storage", "_load_from_bytes", ("text",)),
        ("torch.storage", "_load_from_bytes", (b"rubbish",)),
        ("collections", "OrderedDict", (5,)),
        ("builtins", "set", ("abc",)),
        ("builtins", "set", ([[]],)),
        ("__builtin__", "bytes", (1 << 40,)),
        ("_codecs", "encode", ("abc", "rot13")),
        ("_codecs", "encode", (b"abc", "latin1")),
        ("numpy", "dtype", ("O8", False, True)),
        ("numpy", "dtype", (["f4"], False, True)),
        ("numpy.core.multiarray", "scalar", ("f8", b"12345678")),
        ("numpy.core.multiarray", "_reconstruct", ("ndarray", (0,), b"b")),
        ("numpy._core.numeric", "_frombuffer", (b"1234", "f4", (1,), "C")),
        ("torch_utils.persistence", "_reconstruct_persistent_obj", ({"type": "function"},)),
        ("torch_utils.persistence", "_reconstruct_persistent_obj", ({"type": "class", "class_name": 3, "state": {}},)),
        ("torch_utils.persistence", "_reconstruct_persistent_obj",
         ({"type": "class", "class_name": "G", "state": {"_parameters": {"w": "text"}}},)),
        ("torch_utils.persistence", "_reconstruct_persistent_obj",
         ({"type": "class", "class_name": "G", "state": {"_modules": {"w": {}}}},)),
        ("torch_utils.persistence", "_reconstruct_persistent_obj",
         ({"type": "class", "class_name": "G", "state": {"_modules": 3}},)),
        ("torch_utils.persistence", "_reconstruct_persistent_obj", ()),
        ("dnnlib.util", "EasyDict", ([1],)),
    ],
)  # fmt: skip
def test_odd_arguments_of_allowed_functions(module, name, arguments):
    pushed = pickle.dumps(arguments, 2)[2:-1]
    refused(HEAD + named(module, name) + pushed + b"R.", f"{module}.{name}")


def tensor_pickle(**changes):
    """The pickle of a tensor [2, 3] with other sizes."""
    storage = torch.arange(6.0).untyped_storage()
    buffer = io.BytesIO()
    torch.save(torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True), buffer,
               _use_new_zipfile_serialization=False)  # fmt: skip
    sizes = {"offset": 0, "size": (2, 3), "stride": (3, 1), "requires_grad": False, "hooks": {}} | changes
    storage = named("torch.storage", "_load_from_bytes") + pickle.dumps((buffer.getvalue(),), 3)[2:-1] + b"R"
    rest = b"".join(pickle.dumps(value, 2)[2:-1] for value in sizes.values())
    return HEAD + named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + rest + b"tR."


def test_tensors_beyond_their_storage():
    with open("file.pkl", "wb") as file:
        file.write(tensor_pickle())
    assert torch.equal(read_pickle("file.pkl"), torch.arange(6.0).view(2, 3))
    for changes in (
        {"offset": 1}, {"size": (3, 3)}, {"stride": (4, 1)}, {"offset": -1}, {"stride": (-3, 1)},
        {"size": (1 << 40, 1)}, {"size": (1 << 40, 1), "stride": (0, 0)}, {"size": (2,)}, {"size": (2.0, 3)},
        {"size": (7, 1), "stride": (0, 1)}, {"offset": "0"}, {"hooks": {1: "hook"}},
        {"size": (1 << 62, 1 << 62, 0), "stride": (0, 0)},
    ):  # fmt: skip
        refused(tensor_pickle(**changes), "torch._utils._rebuild_tensor_v2")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_files_of_torch_save(zipped, inner):
    """Alone, and as the bytes of a storage inside an NVIDIA pickle."""
    buffer = io.BytesIO()
    torch.save({"a": reducing(os.system, COMMAND)}, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    if inner:
        data = HEAD + named("torch.storage", "_load_from_bytes") + pickle.dumps((data,), 3)[2:-1] + b"R."
    refused(data, f"{os.system.__module__}.system")
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 3), buffer, _use_new_zipfile_serialization=zipped)
    refused(buffer.getvalue(), "torch.nn.modules.linear.Linear")
    buffer = io.BytesIO()
    torch.save([1, 2], buffer, _use_new_zipfile_serialization=zipped)
    data = HEAD + named("torch.storage", "_load_from_bytes") + pickle.dumps((buffer.getvalue(),), 3)[2:-1] + b"R."
    refused(data, "holds list, expected a storage")


class Stateful:
    def __setstate__(self, state):
        os.system(COMMAND)


def test_states():
    """BUILD calls __setstate__ or sets attributes: of what is on the stack, which may be any name that is allowed."""
    refused(pickle.dumps(Stateful()), f"{__name__}.Stateful")
    state = pickle.dumps({"planted": 1}, 2)[2:-1]
    slots = pickle.dumps((None, {"planted": 1}), 2)[2:-1]
    tensor = tensor_pickle()[2:-1]
    for module, name in sorted(pickled.NAMES):
        refused(HEAD + named(module, name) + state + b"b.", f"to set the state of {module}.{name}")
        refused(HEAD + named(module, name) + slots + b"b.", f"to set the state of {module}.{name}")
    for pushed, kind in ((tensor, "Tensor"), (b"]", "list"), (b"}", "dict"), (b"K\x01", "int")):
        refused(HEAD + pushed + state + b"b.", f"to set the state of {kind}")
    persistent = named("torch_utils.persistence", "_reconstruct_persistent_obj")
    meta = pickle.dumps(({"type": "class", "class_name": "G", "state": {}},), 2)[2:-1]
    refused(HEAD + persistent + meta + b"R" + state + b"b.", "to set the state of Network")
    dtype = named("numpy", "dtype") + pickle.dumps(("f8", False, True), 2)[2:-1] + b"R"
    refused(HEAD + dtype + state + b"b.", "numpy.dtype with a state of other than plain numbers")


def test_other_instructions():
    container = named("collections", "OrderedDict")
    network = named("torch._utils", "_rebuild_parameter")
    refused(b"cos\nsystem\n(S'" + COMMAND.encode() + b"'\ntR.", "os.system")
    refused(b"(S'" + COMMAND.encode() + b"'\nios\nsystem\n.", "os.system")  # INST
    refused(b"(icollections\nOrderedDict\n.", "an instance of collections.OrderedDict")
    refused(b"(ccollections\nOrderedDict\no.", "an instance of collections.OrderedDict")  # OBJ
    refused(HEAD + network + b")\x81.", "an instance of torch._utils._rebuild_parameter")  # NEWOBJ
    refused(HEAD + container + b"K\x01\x85\x81.", "an instance of collections.OrderedDict")
    refused(HEAD + b"]" + b")\x81.", "an instance of list")
    refused(HEAD + container + b")}\x92.", "an instance of collections.OrderedDict")  # NEWOBJ_EX
    refused(HEAD + b"]" + b")R.", "a call of list")
    refused(HEAD + container + b"]R.", "a call of collections.OrderedDict")  # arguments that are no tuple
    refused(HEAD + named("numpy", "ndarray") + b")R.", "a call of numpy.ndarray")
    refused(b"Pabc\n.", "an object from outside the file, 'abc'")
    refused(HEAD + b"K\x01Q.", "an object from outside the file, 1")
    for extension in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        refused(HEAD + extension + b".", "a name of copyreg's registry")
    tensor = tensor_pickle()[2:-1]
    refused(HEAD + tensor + b"K\x00K\x01s.", "to put items into Tensor")
    refused(HEAD + tensor + b"(K\x00K\x01u.", "to put items into Tensor")
    refused(HEAD + tensor + b"(K\x01\x90.", "to put items into Tensor")
    refused(HEAD + container + b"K\x01a.", "to put items into collections.OrderedDict")
    refused(HEAD + container + b"(K\x01e.", "to put items into collections.OrderedDict")


def test_a_network_inside_itself():
    """Records copy what they are made of: a state that is changed afterwards cannot make them endless."""
    persistent = named("torch_utils.persistence", "_reconstruct_persistent_obj")
    modules = b"}\x94"  # memo 0
    meta = b"}(" + text("type") + text("class") + text("class_name") + text("G") + text("state")
    meta += b"}" + text("_modules") + modules + b"su"
    data = HEAD + persistent + meta + b"\x85R\x94" + b"h\x00" + text("self") + b"h\x01s" + b"0."
    with open("file.pkl", "wb") as file:
        file.write(data)
    assert read_pickle("file.pkl").state_dict == {}
