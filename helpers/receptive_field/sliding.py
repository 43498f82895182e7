"""The rule of the lesson: how a window that slides over a map changes the receptive field."""


def slide(
    receptive_field: int, jump: int, start: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> tuple[int, int, int]:
    """Return receptive field, jump and start after a window has slid over a map that has the given ones.

    All along one axis: ``receptive_field`` pixels are seen by a unit, ``jump`` lie between two neighbours, ``start`` is
    the first one that the first unit sees. Araujo, Norris and Sim, "Computing Receptive Fields of CNNs", Distill 2019.
    """
    receptive_field = receptive_field + (kernel_size - 1) * dilation * jump
    start = start - padding * jump
    jump = jump * stride
    return receptive_field, jump, start
