"""The lesson: what the notebook imports, a module for each part of its story.

In the order of the notebook's sections:

2. Data: ``data``, and ``augmentation`` for what a training image goes through
3. The network: ``model``; its layer table: ``receptive_field``
4. torchsummary's summary: ``summary``
6. What goes wrong without batch norm: ``inspection``
7. Training: ``recipe`` for the settings, ``training`` for step, epoch, evaluation and run
8. and 9. Inside the trained network, and its errors: ``inspection``
11. Digits that it was not made for: ``inspection``; your own: ``photographs``; a page to draw on: ``page``

``plots`` has the figures of all of them, ``exercises`` checks the reader's answers.

``runtime`` makes all this safe and fast; to understand the lesson, nobody needs it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder that holds data and results
