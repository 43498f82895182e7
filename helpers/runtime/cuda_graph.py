"""One training step as one CUDA graph: captured once, then replayed for every further batch."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
WARM_UP_STEPS = 3


class GraphedStep:
    """Runs a training step as ordinary calls at first, then replays it as one CUDA graph.

    Before a capture, the CUDA libraries need a few warm-up calls on a side stream. Here these are real steps of the
    run, so nothing has to be undone after them. A batch of another size than the first, such as the short one at the
    end of an epoch, is always an ordinary call. The step is an argument of each call: kept as an attribute, it would
    form a reference cycle with its trainer, and the graph would stay alive until the garbage collector runs.
    """

    def __init__(self) -> None:
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        self.num_full_batches = 0  # up to the capture, which counts as one

    def __call__(self, step: Step, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Do ``step(images, labels)``, the same ``step`` in every call; a call overwrites the last one's results."""
        if self.num_full_batches == 0:
            self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        is_full = images.shape == self.images.shape
        if self.num_full_batches < WARM_UP_STEPS or not is_full:
            if is_full:
                self.num_full_batches += 1  # a short batch warms nothing up
            return self._call_on_side_stream(step, images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        if self.num_full_batches == WARM_UP_STEPS:
            self.num_full_batches += 1
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.outputs = step(self.images, self.labels)
        self.graph.replay()
        return self.outputs

    def _call_on_side_stream(self, step: Step, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # AdamW warns that it is capturable but not being captured, which is intended during the warm-up.
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            outputs = step(images, labels)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs
