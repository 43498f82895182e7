/* From a drawing to MNIST's form, by the same steps as to_mnist in helpers/photographs for a picture: cut out the ink,
   thicken very thin strokes, scale the longer side to 20 pixels, and move the centre of mass to the middle of 28x28.
   Two things are simpler here: the pad has no shadows or noise, and all ink on it belongs to one digit. */

"use strict";

const SIDE = 28; // pixels: of the image
const INK_SIDE = 20; // pixels: of the box that a digit is scaled to
const INK = 0.25; // of the strongest contrast with the paper: anything fainter counts as paper
const THIN = 0.06; // of the digit's longer side: thinner strokes are thickened
const PEN = 0.1; // of the digit's longer side: to this width

/** Round half to even, as Python does. */
function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return value % 1 === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}

/** Return the grey levels of a canvas, as Pillow computes them from red, green and blue. */
function greyLevels(context) {
  const { width, height } = context.canvas;
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Float64Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (19595 * data[4 * i] + 38470 * data[4 * i + 1] + 7471 * data[4 * i + 2] + 32768) >> 16;
  }
  return { width, height, values: grey };
}

/** Return the paper's brightness: the median of the picture's border. */
function paperLevel({ width, height, values }) {
  const border = [];
  for (let x = 0; x < width; x++) border.push(values[x], values[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.push(values[y * width], values[y * width + width - 1]);
  border.sort((a, b) => a - b);
  return border[border.length / 2 - 1]; // of the two in the middle, the lower
}

/** Return each pixel's contrast with the paper, from 0 to 1, and the box around the ink; null if there is no ink. */
function findInk(picture) {
  const { width, height, values } = picture;
  const paper = paperLevel(picture);
  let strongest = 0;
  for (const value of values) strongest = Math.max(strongest, Math.abs(value - paper));
  if (strongest < 1) return null;
  const ink = new Float64Array(values.length);
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const contrast = Math.abs(values[y * width + x] - paper) / strongest;
      if (contrast < INK) continue;
      ink[y * width + x] = contrast;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      left = Math.min(left, x);
      right = Math.max(right, x);
    }
  }
  return { width, ink, top, left, cutHeight: bottom - top + 1, cutWidth: right - left + 1 };
}

/** Return the squared distance from a pixel of a stroke to the nearest pixel that is not part of one. */
function squaredDistance(isStroke, y, x) {
  let nearest = Infinity;
  for (let far = 1; far * far < nearest; far++) {
    for (let along = -far; along <= far; along++) {
      for (const [down, right] of [[far, along], [-far, along], [along, far], [along, -far]]) {
        if (!isStroke(y + down, x + right)) nearest = Math.min(nearest, down * down + right * right);
      }
    }
  }
  return nearest;
}

/** Return the width of the strokes in pixels: the mean distance of their pixels to the edge is about a quarter of it. */
function strokeWidth({ width, ink, top, left, cutHeight, cutWidth }) {
  const isStroke = (y, x) =>
    y >= 0 && y < cutHeight && x >= 0 && x < cutWidth && ink[(top + y) * width + left + x] > 0.5;
  let [sum, count] = [0, 0];
  for (let y = 0; y < cutHeight; y++) {
    for (let x = 0; x < cutWidth; x++) {
      if (!isStroke(y, x)) continue;
      sum += Math.sqrt(squaredDistance(isStroke, y, x));
      count++;
    }
  }
  return (4 * sum) / count - 1;
}

/** Return the ink with very thin strokes thickened, as by thickened in helpers/photographs/ink.py: scaled down, a hair
    line would fade away. */
function thickened(cut) {
  const size = Math.max(cut.cutHeight, cut.cutWidth);
  const own = strokeWidth(cut);
  const radius = roundHalfToEven((PEN * size - own) / 2);
  if (own >= THIN * size || radius < 1) return cut;
  const [cutHeight, cutWidth] = [cut.cutHeight + 2 * radius, cut.cutWidth + 2 * radius];
  const ink = new Float64Array(cutHeight * cutWidth);
  for (let y = 0; y < cut.cutHeight; y++) {
    for (let x = 0; x < cut.cutWidth; x++) {
      const value = cut.ink[(cut.top + y) * cut.width + cut.left + x];
      if (value === 0) continue;
      for (let down = -radius; down <= radius; down++) {
        for (let right = -radius; right <= radius; right++) {
          if (Math.hypot(down, right) >= radius + 0.5) continue;
          const at = (y + radius + down) * cutWidth + x + radius + right;
          ink[at] = Math.max(ink[at], value);
        }
      }
    }
  }
  return { width: cutWidth, ink, top: 0, left: 0, cutHeight, cutWidth };
}

/** Return for each of newSide pixels which of oldSide pixels it is the weighted mean of: {first, weights}.

    The weights form a triangle. This is torch.nn.functional.interpolate(mode="bilinear", antialias=True) along one
    axis. */
function triangles(oldSide, newSide) {
  const scale = oldSide / newSide;
  const support = Math.max(scale, 1); // old pixels on either side of the middle
  const result = [];
  for (let i = 0; i < newSide; i++) {
    const middle = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - support + 0.5), 0);
    const end = Math.min(Math.trunc(middle + support + 0.5), oldSide);
    const weights = [];
    for (let j = first; j < end; j++) weights.push(Math.max(0, 1 - Math.abs((j + 0.5 - middle) / support)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    result.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  return result;
}

/** Return the cut-out ink scaled to newHeight x newWidth: first each row to its new width, then each column. */
function resizeInk({ width, ink, top, left, cutHeight, cutWidth }, newHeight, newWidth) {
  const narrow = new Float64Array(cutHeight * newWidth);
  triangles(cutWidth, newWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < cutHeight; y++) {
      const start = (top + y) * width + left + first;
      for (let j = 0; j < weights.length; j++) narrow[y * newWidth + x] += weights[j] * ink[start + j];
    }
  });
  const small = new Float64Array(newHeight * newWidth);
  triangles(cutHeight, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) {
      for (let j = 0; j < weights.length; j++) {
        small[y * newWidth + x] += weights[j] * narrow[(first + j) * newWidth + x];
      }
    }
  });
  const largest = Math.max(...small);
  return small.map((value) => value / largest);
}

/** Return where a digit of this side must start so that its centre of mass comes to pixel 14, as in MNIST. */
function offset(centre, side) {
  return Math.min(Math.max(roundHalfToEven(SIDE / 2 - centre), 0), SIDE - side);
}

/** Return the 784 pixels of the drawing, and the boxes of the steps between; null if nothing is drawn. */
function toMnist(picture) {
  const found = findInk(picture);
  if (found === null) return null;
  const drawn = thickened(found);
  const [padTop, padLeft] = [(drawn.cutHeight - found.cutHeight) / 2, (drawn.cutWidth - found.cutWidth) / 2];
  const { cutHeight, cutWidth } = drawn;
  const cut = { top: found.top - padTop, left: found.left - padLeft, cutHeight, cutWidth }; // on the picture
  const scale = INK_SIDE / Math.max(cut.cutHeight, cut.cutWidth);
  const height = Math.max(1, roundHalfToEven(cut.cutHeight * scale));
  const width = Math.max(1, roundHalfToEven(cut.cutWidth * scale));
  const scaled = resizeInk(drawn, height, width);
  let [mass, massY, massX] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = scaled[y * width + x];
      mass += value;
      massY += value * y;
      massX += value * x;
    }
  }
  const top = offset(massY / mass, height);
  const left = offset(massX / mass, width);
  const pixels = new Array(SIDE * SIDE).fill(0);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) pixels[(top + y) * SIDE + left + x] = Math.round(scaled[y * width + x] * 255);
  }
  return { pixels, cut, scaled: { top, left, height, width } };
}
