"""Which core computes an attention: PyTorch's forms or the Triton kernels."""

import copy
import pickle

import pytest
import torch

from soft.attention.fast import selection
from soft.attention.soft import SoftAttention
from soft.errors import SettingError
from tests.attention.kernels.interpreter import interpreted
from tests.golden import relative_error


def attention(**options):
    """Two heads of 8 with nine landmarks on an 8×8 grid."""
    torch.manual_seed(0)
    return SoftAttention(16, 2, (8, 8), 3, num_landmarks=9, **options)


def core_of(module, x=None, grid=(8, 8)) -> str:
    """Name of the autograd function that computed the global term, or of the operation, if it is none of ours."""
    q = (torch.randn(2, 64, 16) if x is None else x).unflatten(2, (2, 8)).transpose(1, 2).requires_grad_()
    return type(module.attend(q, q.detach(), grid).grad_fn.next_functions[0][0]).__name__.removesuffix("Backward")


def test_pytorch_computes_it_on_a_cpu():
    assert core_of(attention()) == core_of(attention(kernels="torch")) == "_FusedAttention"


@interpreted
def test_triton_computes_it_where_it_is_asked_to():
    module = attention(kernels="triton")
    assert core_of(module) == "_KernelAttention"
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert core_of(same) == "_KernelAttention"


def test_what_a_cpu_cannot_run_is_refused_at_the_first_input(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(SettingError, match=r"kernels=triton .*; take kernels=auto"):
        attention(kernels="triton")(torch.randn(1, 64, 16), (8, 8))


@interpreted
def test_float64_and_a_grid_of_more_landmarks_are_refused():
    module = attention(kernels="triton")
    with pytest.raises(SettingError, match="computes in float32, and the input is float64"):
        module.double()(torch.randn(1, 64, 16, dtype=torch.float64), (8, 8))
    with pytest.raises(SettingError, match="at most 64 landmarks, and there are 225"):
        module.float()(torch.randn(1, 1024, 16), (32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": "cuda"}, "kernels='cuda' is not known; it is one of auto, torch, triton"),
        ({"kernels": None}, "kernels=None is not known"),
        ({"kernels": "triton", "inverse": "svd"}, "Newton-Raphson inverse alone, and inverse=svd; take kernels=auto"),
        ({"kernels": "triton", "num_landmarks": 64, "inverse": "cholesky"}, "and inverse=cholesky"),
    ],
    ids=str,
)
def test_unfit_options_are_errors(options, message):
    with pytest.raises(SettingError, match=message):
        SoftAttention(16, 2, (8, 8), 3, **{"num_landmarks": 9, **options})


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("works", [True, False])
def test_auto_takes_them_on_a_gpu_where_they_work(works, monkeypatch):
    monkeypatch.setattr(selection, "kernels_work", lambda *_: works)
    assert selection._chosen("auto", GPU, torch.float32, "newton", 49, 32, False) == works
    for device in ("cpu", "mps", "meta", "xpu"):
        assert not selection._chosen("auto", torch.device(device), torch.float32, "newton", 49, 32, False)
    for dtype, inverse, m, d in [
        (torch.float64, "newton", 49, 32),
        (torch.float32, "svd", 49, 32),
        (torch.float32, "newton", 100, 32),
        (torch.float32, "newton", 49, 128),
    ]:
        assert not selection._chosen("auto", GPU, dtype, inverse, m, d, False)


@interpreted
def test_tensors_without_values_take_pytorchs_form():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        assert attention(kernels="triton")(torch.empty(2, 64, 16), (8, 8)).shape == (2, 64, 16)
    with FakeTensorMode():
        assert attention(kernels="triton")(torch.empty(2, 64, 16), (8, 8)).shape == (2, 64, 16)


@pytest.mark.slow
@interpreted
def test_the_compiler_records_the_kernels_as_one_operator():
    module, x = attention(kernels="triton"), torch.randn(2, 64, 16)
    expected = module(x, (8, 8))
    expected.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    graphs = []

    def keep(graph, example):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(module, backend=keep, fullgraph=True)(x, (8, 8)), expected)
    (graph,) = graphs
    assert [node.target for node in graph.graph.nodes if "soft" in str(node.target)] == [torch.ops.soft.attention]
    torch._dynamo.reset()
    found = torch.compile(module, backend="aot_eager", fullgraph=True)(x, (8, 8))
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for name, parameter in module.named_parameters():
        assert relative_error(parameter.grad, gradients[name]) < 1e-5


@interpreted
def test_what_is_exported_scripted_or_traced_needs_no_triton():
    module, x = attention(kernels="triton").requires_grad_(False), torch.randn(2, 64, 16)
    expected = module(x, (8, 8))
    exported = torch.export.export(module, (x, (8, 8)))
    assert "soft" not in str(exported.graph)
    recorded = [
        torch.jit.script(module)(x, (8, 8)),
        torch.jit.trace(lambda x: module(x, (8, 8)), x, check_trace=False)(x),
        exported.module()(x, (8, 8)),
    ]
    for found in recorded:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kernels", ["auto", "triton"])
def test_torch_func_gets_operations_that_it_can_transform(kernels):
    module, x = attention(kernels=kernels).double(), torch.randn(3, 64, 16, dtype=torch.float64)
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(module, parameters, (x, (8, 8))).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x[:, None])
    attention_of_torch = attention(kernels="torch").double()
    attention_of_torch(x, (8, 8)).square().sum().backward()
    for name, parameter in attention_of_torch.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad)
