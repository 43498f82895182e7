"""The lesson: what the notebook imports, one module for each of its subjects.

In the order of the notebook's sections:

2. Data: ``data``, and ``augmentation`` for random changes of the training images
3. The network: ``model``; its layer table: ``receptive_field``
4. torchsummary's summary: ``summary``
6. What goes wrong without batch norm: ``inspection``
7. Training: ``recipe`` for the settings, ``training`` for step, epoch, evaluation and run
8. and 9. Inside the trained network, and its errors: ``inspection``
11. Distorted test digits: ``inspection``; photographs of your own digits: ``photographs``; a page to draw on: ``page``

``plots`` draws the figures of all sections, ``exercises`` checks the reader's answers.

``runtime`` makes all this safe and fast; the lesson can be understood without it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder that holds data and results
