"""Digits on pictures of one's own, brought to the form of MNIST's."""

from helpers.photographs.digits import Digit, digits_on, to_mnist
from helpers.photographs.pictures import read_picture, thumbnail

__all__ = ["Digit", "digits_on", "read_picture", "thumbnail", "to_mnist"]
