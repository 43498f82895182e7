"""What a network does with an image: calls of functions, and the steps that a reader knows them by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from helpers.runtime.looking import tensors_in

CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
CASTS = ("to", "float", "double", "half", "bfloat16", "type", "typeas")


class UnsupportedOperation(ValueError):
    """One line that names what cannot be followed, and why."""


@dataclass
class Call:
    """A function that reads something of the image."""

    name: str  # as torch has it, without the underscores of an operator: conv2d, add_, getitem
    function: Callable
    args: tuple
    kwargs: dict
    sources: list[Tensor]  # the inputs that come from the image and whose values are read
    label: str  # for errors
    result: object = None
    makes_parameters: bool = False  # reads some that are not the network's

    @property
    def kind(self) -> str:
        """One name for what nn.LeakyReLU, F.leaky_relu and Tensor.leaky_relu_ do."""
        return self.name.replace("_", "").lower()

    @property
    def in_place(self) -> bool:
        """Tell whether it changes its first argument."""
        return self.name.endswith("_") or self.name == "setitem"

    def run(self, replaced: Mapping[int, Tensor] | None = None) -> object:
        """Return what the function gives, with its input tensors ``replaced`` by id; casts keep the source's type."""
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
    """A function, or a layer of torch.nn with all the functions that it calls."""

    name: str
    layer: nn.Module | None
    modules: dict[str, str]  # names and classes of those around it, the outermost first
    sources: list[Tensor]
    output: Tensor | None = None
    calls: list[Call] = field(default_factory=list)
    params: set[str] = field(default_factory=set)  # paths of those that have acted on it, and on no row before


def is_layer(module: nn.Module) -> bool:
    """Tell whether ``module`` is a layer of torch.nn or a variant of one: one step, whatever it calls."""
    kinds = [kind for kind in type(module).__mro__ if kind not in CONTAINERS]
    return any(kind.__module__.startswith("torch.nn.modules") for kind in kinds)
