"""The operations of a forward pass: single function calls, and the steps they form in the layer table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from helpers.runtime.looking import tensors_in

CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
CASTS = ("to", "float", "double", "half", "bfloat16", "type", "typeas")


class UnsupportedOperation(ValueError):
    """An operation that cannot be followed or measured; the message is one line that names it and says why."""


@dataclass
class Call:
    """A call of a function that reads values computed from the image."""

    name: str  # torch's name, without the double underscores of an operator: conv2d, add_, getitem
    function: Callable
    args: tuple
    kwargs: dict
    sources: list[Tensor]  # the inputs that are computed from the image and whose values are read
    label: str  # names the call in error messages
    result: object = None
    makes_parameters: bool = False  # some of its inputs are parameters that do not belong to the network

    @property
    def kind(self) -> str:
        """One name for nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_: leakyrelu. Indices make no difference."""
        return self.name.replace("_", "").lower().removesuffix("withindices")

    @property
    def in_place(self) -> bool:
        """Whether the call modifies its first argument."""
        return self.name.endswith("_") or self.name == "setitem"

    def run(self, replaced: Mapping[int, Tensor] | None = None) -> object:
        """Call the function and return its result.

        ``replaced`` maps the id of an input tensor to the tensor to use instead. A cast between floating-point types
        does nothing: the result keeps the type of the source.
        """
        args, kwargs, sources = self.args, self.kwargs, self.sources
        if replaced:
            args, kwargs, sources = tree_map(lambda value: replaced.get(id(value), value), (args, kwargs, sources))
        result = self.function(*args, **kwargs)
        if self.name == "setitem":
            return args[0]
        if sources and self.kind in CASTS and result.is_floating_point():
            return result.to(sources[0].dtype)
        return result

    def outputs(self) -> list[Tensor]:
        return tensors_in(self.result)


@dataclass
class Step:
    """A layer of torch.nn with all the functions it calls, or a function called outside of any layer."""

    name: str
    layer: nn.Module | None
    modules: dict[str, str]  # names and classes of the modules around it, outermost first
    sources: list[Tensor]
    output: Tensor | None = None
    calls: list[Call] = field(default_factory=list)
    params: set[str] = field(default_factory=set)  # paths of the parameters used here and in no earlier row


def is_layer(module: nn.Module) -> bool:
    """Tell whether ``module`` is a layer of torch.nn or a subclass of one; it is one step, whatever it calls."""
    kinds = [kind for kind in type(module).__mro__ if kind not in CONTAINERS]
    return any(kind.__module__.startswith("torch.nn.modules") for kind in kinds)
