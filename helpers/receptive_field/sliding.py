"""The rule of the lesson: how a convolution or pooling window changes the receptive field."""


def slide(
    receptive_field: int, jump: int, start: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> tuple[int, int, int]:
    """Return receptive field, jump and start of a layer's output, given those of its input, along one axis in pixels.

    A unit sees ``receptive_field`` pixels, neighbouring units are ``jump`` pixels apart, and the first unit sees pixels
    from ``start`` on. Source: Araujo, Norris and Sim, "Computing Receptive Fields of CNNs", Distill 2019.
    """
    receptive_field = receptive_field + (kernel_size - 1) * dilation * jump
    start = start - padding * jump
    jump = jump * stride
    return receptive_field, jump, start
