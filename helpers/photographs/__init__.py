"""Digits on pictures of one's own, brought to the form of MNIST's."""

from helpers.photographs.digits import Digit, digits_on, read_picture, thumbnail, to_mnist

__all__ = ["Digit", "digits_on", "read_picture", "thumbnail", "to_mnist"]
