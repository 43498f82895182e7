"""What the layer table stands on: a network is executed on one image, and what every element sees is followed."""
