"""Run any network and report each operation on its images, as executed, by its name and place."""

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from helpers.receptive_field.calls import Call, Step, UnsupportedOperation, is_layer
from helpers.receptive_field.operations import READ_FIRST_VALUES, READ_NO_VALUES
from helpers.runtime.looking import first_line, tensors_in

READS_VALUES = ("__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__")
READS_VALUES += ("item", "tolist", "numpy", "equal", "allclose")

DECIDE = "decide by its shape, or make a table of either branch"
WAYS = "none of torch's functions: use these all the way"


class Tracer(TorchFunctionMode):
    """While it is active, ``on_call`` is asked what the outputs of each call see, ``on_step`` told each step.

    ``on_call`` runs the call, sets its ``result``, and returns a state for each of its ``outputs``, which ``seen`` then
    has. ``on_step`` returns whether the step has a row; if not, its parameters go to what reads it. ``on_write`` is
    given a tensor, its state, a tensor that shares its memory and was written to, and the state of this one; it returns
    the new state of the first.
    """

    def __init__(
        self,
        network: nn.Module,
        on_call: Callable[[Call], list],
        on_step: Callable[[Step], bool],
        on_write: Callable[[Tensor, object, Tensor, object], object],
    ) -> None:
        super().__init__()
        self.network, self.on_call, self.on_step, self.on_write = network, on_call, on_step, on_write
        self.names, self.modules, self.leaf = Counter(), {}, None
        self.seen = WeakIdKeyDictionary()  # what comes from the images, with its state
        self.carried = WeakIdKeyDictionary()  # what parameters have acted on, with their paths
        self.constants = WeakIdKeyDictionary()  # tensors that are known not to come from the images
        self.reached: set[str] = set()  # paths of parameters that have acted on an image
        self.paths = dict(network.named_parameters()).keys()  # each parameter once
        for path, parameter in network.named_parameters():
            self.carried[parameter] = {path}
        self.constants.update((tensor, True) for tensor in (*network.parameters(), *network.buffers()))

    def follow(self, images: Tensor, state: object) -> None:
        """Run the network on ``images``, which are in ``state``."""
        hooks = []
        for path, module in self.network.named_modules():
            hooks.append(module.register_forward_pre_hook(self._enter(path), with_kwargs=True))
            hooks.append(module.register_forward_hook(self._leave(path)))
        try:
            with _apart(images.dtype):
                images = images.clone().requires_grad_() * 1  # so that all that comes from them has a gradient
                self.seen[images] = state
                with self:
                    self.network(images)
        except UnsupportedOperation:
            raise
        except Exception as error:
            why = f"cannot be followed by running it (check input_size): {first_line(error)}"
            raise UnsupportedOperation(f"{self.leaf.name if self.leaf else self._place()} {why}") from error
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = function.__self__.__name__ if function.__name__ == "__get__" else function.__name__
        name = name.strip("_") if name.startswith("__") else name
        call = Call(name, function, args, kwargs or {}, [], self._label(name))
        inputs = _values_read(call)
        call.sources = [tensor for tensor in inputs if tensor in self.seen]
        self._check(call, inputs)
        if not call.sources:
            call.result = call.run()
            self._carry(call, inputs)
            return call.result
        before = self.seen.get(call.args[0]) if call.in_place else None
        try:
            states = self.on_call(call)
        except UnsupportedOperation:
            raise
        except Exception as error:
            why = f"cannot take its input (check input_size): {first_line(error)}"
            raise UnsupportedOperation(f"{call.label} {why}") from error
        if states:  # tensors, not a size
            self.seen.update(zip(call.outputs(), states, strict=True))
            self.reached |= self._carry(call, inputs)
            if call.in_place and self.seen[call.args[0]] is not before:
                self._write(call.args[0])
            self._count(call)
        return call.result

    def _write(self, part: Tensor) -> None:
        """Tell all that shares memory with ``part`` that it has changed, and the tensor that it is a view of."""
        sharing = [tensor for tensor in self.seen if tensor is not part and _share_memory(tensor, part)]
        if part._base is not None and part._base not in self.seen:
            sharing.append(part._base)
        for tensor in sharing:
            self.seen[tensor] = self.on_write(tensor, self.seen.get(tensor), part, self.seen[part])
            self.carried[tensor] = self.carried.get(tensor, set()) | self.carried.get(part, set())

    def _count(self, call: Call) -> None:
        """Make a step of ``call``, of each of its outputs where it splits a map; or leave it to the layer around it."""
        if self.leaf:
            self.leaf.calls.append(call)
            return
        name = f"{call.name}_{self.names[call.name]}" if self.names[call.name] else call.name
        self.names[call.name] += 1
        if isinstance(call.result, Tensor) or call.name in ("max", "min", "max_pool2d"):
            self._finish(Step(name, None, dict(self.modules), call.sources, call.outputs()[0], [call]))
        else:
            for i, output in enumerate(call.outputs()):
                self._finish(Step(f"{name}[{i}]", None, dict(self.modules), call.sources, output, [call]))

    def _carry(self, call: Call, inputs: list[Tensor]) -> set[str]:
        """Note, and return, which parameters have acted on a call's outputs."""
        carried = set().union(*(self.carried.get(tensor, ()) for tensor in inputs))
        for output in call.outputs() if carried else ():
            self.carried[output] = carried
        return carried

    def _finish(self, step: Step) -> None:
        if step.output is not None and step.output in self.seen:
            step.params |= self.carried.get(step.output, set())
            self.carried[step.output] = set() if self.on_step(step) else step.params

    def _check(self, call: Call, inputs: list[Tensor]) -> None:
        """Refuse what would be followed wrongly, and note what needs a remark."""
        refused = f"{call.label} cannot be followed:"
        if call.sources and call.function.__name__ in READS_VALUES:
            raise UnsupportedOperation(f"{refused} the forward pass decides by the values of the image: {DECIDE}")
        for tensor in inputs:
            if tensor not in self.seen and tensor not in self.constants:
                if tensor.grad_fn or any(_share_memory(tensor, other) for other in self.seen):
                    raise UnsupportedOperation(f"{refused} it reads what comes from the image, but by {WAYS}")
                self.constants[tensor] = True
        call.makes_parameters = any(isinstance(x, nn.Parameter) and x not in self.carried for x in inputs)

    def _label(self, name: str) -> str:
        if self.leaf:
            return self.leaf.name
        return f"{name} in {self._place()}" if self.modules else name

    def _place(self) -> str:
        return next(reversed(self.modules), type(self.network).__name__)

    def _enter(self, path: str) -> Callable:
        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if self.leaf or not path:
                return
            self.names[path] += 1
            name = f"{path} ({self.names[path]})" if self.names[path] > 1 else path
            if is_layer(module):
                sources = [tensor for tensor in tensors_in((args, kwargs)) if tensor in self.seen]
                self.leaf = Step(name, module, dict(self.modules), sources)
            else:
                self.modules[name] = type(module).__name__

        return enter

    def _leave(self, path: str) -> Callable:
        def leave(module: nn.Module, args: tuple, output: object) -> None:
            if self.leaf and self.leaf.layer is module:
                step, self.leaf = self.leaf, None
                step.output = next(iter(tensors_in(output)), None)
                step.params |= {f"{path}.{name}" for name, _ in module.named_parameters()} & self.paths
                self.reached |= step.params if step.output in self.seen else set()
                self._finish(step)
            elif path and not self.leaf:
                self.modules.popitem()

        return leave


def _share_memory(one: Tensor, other: Tensor) -> bool:
    try:
        return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # it has no memory of its own, as inside vmap: it may be any
        return True


def _values_read(call: Call) -> list[Tensor]:
    """Return the tensors whose values ``call`` reads: others give only their shape or type."""
    if call.kind in READ_NO_VALUES:
        return tensors_in((call.args[1:], {name: value for name, value in call.kwargs.items() if name != "input"}))
    if call.kind in READ_FIRST_VALUES:
        return tensors_in(call.args[:1])
    return tensors_in((call.args, call.kwargs))


@contextlib.contextmanager
def _apart(dtype: torch.dtype) -> Iterator[None]:
    """Leave no trace of what runs in the block, print nothing, keep nothing for a backward pass.

    New tensors are of ``dtype``, and what is computed from the images has a gradient.
    """
    usual = torch.get_default_dtype()
    nothing = torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda kept: kept)
    with (
        torch.random.fork_rng(devices=()),
        torch.inference_mode(False),
        torch.enable_grad(),
        nothing,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)
