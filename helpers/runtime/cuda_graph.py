"""One training step as one CUDA graph: captured once, then replayed for every further batch."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
WARM_UP_STEPS = 3


class GraphedStep:
    """Calls a training step as it is at first, then replays it as one CUDA graph.

    Capture wants the libraries warmed up by calls on a stream beside the main one. Here these are real steps of the
    run, so nothing has to be undone after them. A batch of another size than the first, the short one that ends an
    epoch, is always an ordinary call. The step is handed over with each call: an object that kept its own step would
    keep itself alive, and the graph with it, until the garbage collector happens to run.
    """

    def __init__(self) -> None:
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        self.num_full_batches = 0  # up to the capture, which counts as one

    def __call__(self, step: Step, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Do ``step(images, labels)``, always the same one; the next call overwrites the tensors that it returns."""
        if self.num_full_batches == 0:
            self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        is_full = images.shape == self.images.shape
        if self.num_full_batches < WARM_UP_STEPS or not is_full:
            if is_full:
                self.num_full_batches += 1  # a short batch warms nothing up
            return self._call_aside(step, images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        if self.num_full_batches == WARM_UP_STEPS:
            self.num_full_batches += 1
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.outputs = step(self.images, self.labels)
        self.graph.replay()
        return self.outputs

    def _call_aside(self, step: Step, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # AdamW remarks that it could be captured and is not: the warm-up is meant to be so.
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            outputs = step(images, labels)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs
