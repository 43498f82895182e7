/* The network of helpers/model.py, in evaluation mode, where dropout does nothing.

   For whoever wants to check this page, it offers two functions to the console:

     readDigit(pixels)                  784 numbers from 0 to 255, row by row ->
                                        {logProbabilities: [10 numbers],
                                         maps: {stage name: {shape: [channels, height, width], values: [...]}}}
     receptiveBox(stage, row, column)   what a unit sees -> [[top, bottom], [left, right]], the last ones included

   A stage's map is what the module of that name returns: after ReLU and batch norm, and for fc the ten logits.
   What is drawn is prepared by toMnist (below); answerDrawing() reads the drawing anew and returns its 784 pixels. */

"use strict";

const PAGE = JSON.parse(document.getElementById("page-data").textContent); // written by helpers/page/__init__.py

/** Return the bytes of a base64 text. */
function decodeBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// PyTorch's state dict: parameters["conv1.0.weight"] is {shape: [8, 1, 3, 3], values: 72 numbers}.
const parameters = {};
for (const [name, { shape, float32 }] of Object.entries(PAGE.parameters)) {
  parameters[name] = { shape, values: new Float32Array(decodeBytes(float32).buffer) };
}

/** Slide each kernel over all channels of x, without padding: a side loses kernelSize - 1 pixels. */
function conv2d(x, weight) {
  const [inChannels, height, width] = x.shape;
  const [outChannels, , kernelSize] = weight.shape;
  const pixels = x.values;
  const weights = weight.values;
  const outHeight = height - kernelSize + 1;
  const outWidth = width - kernelSize + 1;
  const values = new Float64Array(outChannels * outHeight * outWidth);
  let unit = 0;
  for (let out = 0; out < outChannels; out++) {
    for (let row = 0; row < outHeight; row++) {
      for (let column = 0; column < outWidth; column++) {
        let sum = 0;
        let w = out * inChannels * kernelSize * kernelSize;
        for (let channel = 0; channel < inChannels; channel++) {
          for (let i = 0; i < kernelSize; i++) {
            let pixel = (channel * height + row + i) * width + column;
            for (let j = 0; j < kernelSize; j++) sum += weights[w++] * pixels[pixel++];
          }
        }
        values[unit++] = sum;
      }
    }
  }
  return { shape: [outChannels, outHeight, outWidth], values };
}

/** Set what is negative to 0. */
function relu(x) {
  return { shape: x.shape, values: x.values.map((value) => Math.max(value, 0)) };
}

/** Bring each channel to the mean and spread that training saw, then to a scale and a shift that were learned. */
function batchNorm2d(x, name) {
  const [channels, height, width] = x.shape;
  const runningMean = parameters[`${name}.running_mean`].values;
  const runningVar = parameters[`${name}.running_var`].values;
  const weight = parameters[`${name}.weight`].values;
  const bias = parameters[`${name}.bias`].values;
  const values = new Float64Array(x.values.length);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    const std = Math.sqrt(runningVar[channel] + PAGE.eps);
    for (let i = 0; i < height * width; i++) {
      values[unit] = ((x.values[unit] - runningMean[channel]) / std) * weight[channel] + bias[channel];
      unit++;
    }
  }
  return { shape: x.shape, values };
}

/** conv_block of helpers/model.py: convolution, ReLU, batch norm. */
function convBlock(x, name) {
  x = conv2d(x, parameters[`${name}.0.weight`]);
  x = relu(x);
  return batchNorm2d(x, `${name}.2`);
}

/** Keep the largest of each 2x2 square. */
function maxPool2d(x) {
  const [channels, height, width] = x.shape;
  const shape = [channels, height / 2, width / 2];
  const values = new Float64Array(channels * shape[1] * shape[2]);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height; row += 2) {
      for (let column = 0; column < width; column += 2) {
        const pixel = (channel * height + row) * width + column;
        const above = Math.max(x.values[pixel], x.values[pixel + 1]);
        const below = Math.max(x.values[pixel + width], x.values[pixel + width + 1]);
        values[unit++] = Math.max(above, below);
      }
    }
  }
  return { shape, values };
}

/** One weighted sum of all values for each output, and its bias. */
function linear(x, name) {
  const weight = parameters[`${name}.weight`];
  const [outFeatures, inFeatures] = weight.shape;
  const values = Float64Array.from(parameters[`${name}.bias`].values);
  for (let out = 0; out < outFeatures; out++) {
    for (let i = 0; i < inFeatures; i++) values[out] += weight.values[out * inFeatures + i] * x.values[i];
  }
  return { shape: [outFeatures, 1, 1], values };
}

/** Turn logits into logarithms of probabilities; the largest is taken off first so that no exponential overflows. */
function logSoftmax(x) {
  const largest = Math.max(...x.values);
  let sum = 0;
  for (const value of x.values) sum += Math.exp(value - largest);
  return Array.from(x.values, (value) => value - largest - Math.log(sum));
}

/** Net.forward: 784 pixels from 0 to 255 in, log-probabilities and the map of every stage out. */
function forward(pixels) {
  let x = { shape: [1, 28, 28], values: Float64Array.from(pixels, (p) => (p / 255 - PAGE.mean) / PAGE.std) };
  const maps = {};
  x = maps.conv1 = convBlock(x, "conv1"); //  8 x 26 x 26
  x = maps.conv2 = convBlock(x, "conv2"); // 16 x 24 x 24
  x = maps.pool1 = maxPool2d(x); //          16 x 12 x 12
  x = maps.conv3 = convBlock(x, "conv3"); // 32 x 12 x 12
  x = maps.conv4 = convBlock(x, "conv4"); // 16 x 10 x 10
  x = maps.conv5 = convBlock(x, "conv5"); //  8 x 8 x 8
  x = maps.conv6 = convBlock(x, "conv6"); // 16 x 8 x 8
  x = maps.conv7 = convBlock(x, "conv7"); //  8 x 6 x 6
  x = maps.fc = linear(x, "fc"); //          10 x 1 x 1
  return { logProbabilities: logSoftmax(x), maps };
}

/** The same with plain arrays: see the top of this script. */
function readDigit(pixels) {
  if (pixels.length !== 784) throw new RangeError(`${pixels.length} pixels: give 784, row by row, from 0 to 255`);
  const { logProbabilities, maps } = forward(pixels);
  for (const map of Object.values(maps)) map.values = Array.from(map.values);
  return { logProbabilities, maps };
}

/** Look up what a unit sees in the layer table, which Python computed and proved. */
function receptiveBox(stage, row, column) {
  const { rows, columns } = PAGE.stages.find(({ name }) => name === stage);
  return [[...rows[row]], [...columns[column]]];
}
