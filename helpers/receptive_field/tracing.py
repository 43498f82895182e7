"""Run any network on images and report each operation that reads them, with its name and the modules around it."""

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from helpers.receptive_field.calls import Call, Step, UnsupportedOperation, is_layer
from helpers.receptive_field.operations import READ_FIRST_VALUES, READ_NO_VALUES, names
from helpers.runtime.looking import first_line, tensors_in

# These turn values of a tensor into Python or NumPy values, which cannot be followed.
LEAVES_TORCH = names("__bool__ __int__ __float__ __index__ __array__ __contains__ item tolist numpy equal allclose")


class Tracer(TorchFunctionMode):
    """Follows the images through a network, keeping a state for each tensor that is computed from them.

    Three functions say what to do on the way:

    ``on_call`` gets each call that reads the images. It must run the call, set its ``result`` and return the state of
    each of its ``outputs``.

    ``on_step`` gets each step when it is done, and returns whether the step has a row in the table. If not, its
    parameters count in the next step that has one.

    ``on_write`` gets a tensor, its state (None if it has none), another tensor that shares its memory and was written
    to, and the state of that one. It returns the new state of the first tensor.
    """

    def __init__(
        self,
        network: nn.Module,
        on_call: Callable[[Call], list],
        on_step: Callable[[Step], bool],
        on_write: Callable[[Tensor, object, Tensor, object], object],
    ) -> None:
        super().__init__()
        self.network = network
        self.on_call, self.on_step, self.on_write = on_call, on_step, on_write
        self.uses = Counter()  # how often each module and function was used
        self.modules: dict[str, str] = {}  # names and classes of the modules that are running, outermost first
        self.layer: Step | None = None  # the layer that is running
        self.states = WeakIdKeyDictionary()  # of each tensor computed from the images
        self.params = WeakIdKeyDictionary()  # paths of the parameters that each tensor was computed from
        self.constants = WeakIdKeyDictionary()  # tensors known not to be computed from the images
        self.paths: set[str] = set()  # a shared parameter has only its first one
        for path, parameter in network.named_parameters():
            self.paths.add(path)
            self.params[parameter] = {path}
        for tensor in (*network.parameters(), *network.buffers()):
            self.constants[tensor] = True

    def follow(self, images: Tensor, state: object) -> None:
        """Run the network on ``images``, whose state is ``state``.

        Raises ``UnsupportedOperation`` for an operation that cannot be followed, or that fails on its input.
        """
        hooks = []
        for path, module in self.network.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True))
            hooks.append(module.register_forward_hook(partial(self._leave, path)))
        try:
            with _isolated(images.dtype):
                images = images.clone().requires_grad_() * 1  # all tensors computed from them get a grad_fn
                self.states[images] = state
                with self:
                    self.network(images)
        except UnsupportedOperation:
            raise
        except Exception as error:
            place = self.layer.name if self.layer else self._innermost_module()
            why = f"cannot be followed by running it (check input_size): {first_line(error)}"
            raise UnsupportedOperation(f"{place} {why}") from error
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = function.__name__
        if name == "__get__":  # a property, such as x.T
            name = function.__self__.__name__
        if name.startswith("__"):
            name = name.strip("_")
        call = Call(name, function, args, kwargs or {}, [], self._label(name))
        inputs = _values_read(call)
        call.sources = [tensor for tensor in inputs if tensor in self.states]
        self._check(call, inputs)
        if not call.sources:
            call.result = call.run()
            self._note_params(call, inputs)
            return call.result
        before = self.states.get(call.args[0]) if call.in_place else None
        try:
            states = self.on_call(call)
        except UnsupportedOperation:
            raise
        except Exception as error:
            why = f"cannot take its input (check input_size): {first_line(error)}"
            raise UnsupportedOperation(f"{call.label} {why}") from error
        if states:  # the result is a tensor or several, not a size
            self.states.update(zip(call.outputs(), states, strict=True))
            self._note_params(call, inputs)
            if call.in_place and self.states[call.args[0]] is not before:
                self._update_shared_memory(call.args[0])
            self._record(call)
        return call.result

    def _update_shared_memory(self, part: Tensor) -> None:
        """Update the state of all tensors that share memory with ``part``, which was written to."""
        sharing = [tensor for tensor in self.states if tensor is not part and _share_memory(tensor, part)]
        if part._base is not None and part._base not in self.states:  # ``part`` is a view of it
            sharing.append(part._base)
        for tensor in sharing:
            self.states[tensor] = self.on_write(tensor, self.states.get(tensor), part, self.states[part])
            self.params[tensor] = self.params.get(tensor, set()) | self.params.get(part, set())

    def _record(self, call: Call) -> None:
        """Add ``call`` to the layer that is running.

        Outside of layers it is a step of its own; if it has several outputs, each is a step.
        """
        if self.layer:
            self.layer.calls.append(call)
            return
        name = f"{call.name}_{self.uses[call.name]}" if self.uses[call.name] else call.name
        self.uses[call.name] += 1
        if isinstance(call.result, Tensor) or call.name in ("max", "min", "max_pool2d"):  # values and indices
            self._finish(Step(name, None, dict(self.modules), call.sources, call.outputs()[0], [call]))
        else:
            for i, output in enumerate(call.outputs()):
                self._finish(Step(f"{name}[{i}]", None, dict(self.modules), call.sources, output, [call]))

    def _note_params(self, call: Call, inputs: list[Tensor]) -> None:
        """Note the paths of the parameters that the outputs of ``call`` were computed from."""
        paths: set[str] = set()
        for tensor in inputs:
            paths |= self.params.get(tensor, set())
        if paths:
            for output in call.outputs():
                self.params[output] = paths

    def _finish(self, step: Step) -> None:
        """Report ``step`` if its output is computed from the images."""
        if step.output is None or step.output not in self.states:
            return
        step.params |= self.params.get(step.output, set())
        has_row = self.on_step(step)
        self.params[step.output] = set() if has_row else step.params

    def _check(self, call: Call, inputs: list[Tensor]) -> None:
        """Raise ``UnsupportedOperation`` if ``call`` hides a way to the images; note whether it makes parameters."""
        refused = f"{call.label} cannot be followed:"
        if call.sources and call.function.__name__ in LEAVES_TORCH:
            raise UnsupportedOperation(
                f"{refused} the forward pass depends on the values of the image outside of torch's operations: "
                "let it depend on the shape, or make a table of each branch"
            )
        for tensor in inputs:
            if tensor not in self.states and tensor not in self.constants:
                if tensor.grad_fn or any(_share_memory(tensor, other) for other in self.states):
                    raise UnsupportedOperation(
                        f"{refused} its input was computed from the image outside of torch's functions: use those"
                    )
                self.constants[tensor] = True
        call.makes_parameters = any(isinstance(x, nn.Parameter) and x not in self.params for x in inputs)

    def _label(self, name: str) -> str:
        """Return how errors name the function ``name``: by the layer that calls it, or the module."""
        if self.layer:
            return self.layer.name
        return f"{name} in {self._innermost_module()}" if self.modules else name

    def _innermost_module(self) -> str:
        return next(reversed(self.modules), type(self.network).__name__)

    def _enter(self, path: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Runs before the module at ``path``."""
        if self.layer or not path:
            return
        self.uses[path] += 1
        name = f"{path} ({self.uses[path]})" if self.uses[path] > 1 else path
        if is_layer(module):
            sources = [tensor for tensor in tensors_in((args, kwargs)) if tensor in self.states]
            self.layer = Step(name, module, dict(self.modules), sources)
        else:
            self.modules[name] = type(module).__name__

    def _leave(self, path: str, module: nn.Module, args: tuple, output: object) -> None:
        """Runs after the module at ``path``."""
        if self.layer and self.layer.layer is module:
            step, self.layer = self.layer, None
            step.output = next(iter(tensors_in(output)), None)
            step.params |= {f"{path}.{name}" for name, _ in module.named_parameters()} & self.paths
            self._finish(step)
        elif path and not self.layer:
            self.modules.popitem()


def _share_memory(one: Tensor, other: Tensor) -> bool:
    try:
        return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # memory is hidden, as inside vmap: assume that it is shared
        return True


def _values_read(call: Call) -> list[Tensor]:
    """Return the tensors whose values ``call`` reads; of others it needs only shape, type or device."""
    if call.kind in READ_NO_VALUES:
        return tensors_in((call.args[1:], {name: value for name, value in call.kwargs.items() if name != "input"}))
    if call.kind in READ_FIRST_VALUES:
        return tensors_in(call.args[:1])
    return tensors_in((call.args, call.kwargs))


@contextlib.contextmanager
def _isolated(dtype: torch.dtype) -> Iterator[None]:
    """Keep what runs in the block from changing random state, printing, or storing tensors for a backward pass.

    New tensors are of ``dtype``, and tensors computed from the images have a ``grad_fn``.
    """
    default = torch.get_default_dtype()
    store_nothing = torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda stored: stored)
    with (
        torch.random.fork_rng(devices=()),
        torch.inference_mode(False),
        torch.enable_grad(),
        store_nothing,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
