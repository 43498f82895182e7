"""Find the digits in your own pictures and turn them into images like those of MNIST."""

from helpers.photographs.digits import Digit, digits_on, to_mnist
from helpers.photographs.pictures import read_picture, thumbnail

__all__ = ["Digit", "digits_on", "read_picture", "thumbnail", "to_mnist"]
