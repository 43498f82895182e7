/* The network: PAGE.layers, one after another. Dropout is not among them: it is off when a network answers.

   To check the page, call these from the browser's console:

     readDigit(pixels, others)          pixels: 784 numbers from 0 to 255, row by row ->
                                        {logProbabilities: [10 numbers],
                                         maps: {stage name: {shape: [channels, height, width], values: [...]}}}
                                        Without others, batch norm uses what training stored (eval mode). With a list
                                        of images, others, it uses the mean and variance of the batch that they form
                                        with pixels (train mode); [] is a batch of one.
     receptiveBox(stage, row, column)   what a unit sees -> [[top, bottom], [left, right]], all four included

   A stage's map is what its last layer gives: that of a convolution's stage comes after its ReLU and batch norm. */

"use strict";

const PAGE = JSON.parse(document.getElementById("page-data").textContent); // as helpers/page/__init__.py writes it

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

/** Surround each channel with zeros. */
function pad2d(x, [padRows, padColumns]) {
  const [channels, height, width] = x.shape;
  const shape = [channels, height + 2 * padRows, width + 2 * padColumns];
  const values = new Float64Array(channels * shape[1] * shape[2]);
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height; row++) {
      const line = x.values.subarray((channel * height + row) * width, (channel * height + row + 1) * width);
      values.set(line, (channel * shape[1] + padRows + row) * shape[2] + padColumns);
    }
  }
  return { shape, values };
}

/** Return how many places a window has along a side. */
function numPlaces(side, kernelSide, stride) {
  return Math.floor((side - kernelSide) / stride) + 1;
}

/** Slide each kernel over all channels of x. */
function conv2d(x, { name, stride, padding }) {
  if (padding[0] || padding[1]) x = pad2d(x, padding);
  const [inChannels, height, width] = x.shape;
  const weight = parameters[`${name}.weight`];
  const bias = parameters[`${name}.bias`]; // not there if the layer has none
  const [outChannels, , kernelHeight, kernelWidth] = weight.shape;
  const pixels = x.values;
  const weights = weight.values;
  const outHeight = numPlaces(height, kernelHeight, stride[0]);
  const outWidth = numPlaces(width, kernelWidth, stride[1]);
  const values = new Float64Array(outChannels * outHeight * outWidth);
  let unit = 0;
  for (let out = 0; out < outChannels; out++) {
    for (let row = 0; row < outHeight; row++) {
      for (let column = 0; column < outWidth; column++) {
        let sum = bias ? bias.values[out] : 0;
        let w = out * inChannels * kernelHeight * kernelWidth;
        for (let channel = 0; channel < inChannels; channel++) {
          for (let i = 0; i < kernelHeight; i++) {
            let pixel = (channel * height + row * stride[0] + i) * width + column * stride[1];
            for (let j = 0; j < kernelWidth; j++) sum += weights[w++] * pixels[pixel++];
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

/** Return each channel's mean and variance over all units of all images of a batch. */
function batchStatistics(batch) {
  const [channels, height, width] = batch[0].shape;
  const size = height * width;
  const mean = new Float64Array(channels);
  const variance = new Float64Array(channels);
  for (let channel = 0; channel < channels; channel++) {
    const maps = batch.map(({ values }) => values.subarray(channel * size, (channel + 1) * size));
    for (const map of maps) for (const value of map) mean[channel] += value / (size * batch.length);
    for (const map of maps) for (const value of map) variance[channel] += (value - mean[channel]) ** 2;
    variance[channel] /= size * batch.length;
  }
  return { mean, variance };
}

/** Bring each channel to mean 0 and spread 1 by these statistics, then to the scale and shift that were learned. */
function batchNorm2d(x, { name, eps }, { mean, variance }) {
  const [channels, height, width] = x.shape;
  const scale = parameters[`${name}.weight`].values;
  const shift = parameters[`${name}.bias`].values;
  const values = new Float64Array(x.values.length);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    const std = Math.sqrt(variance[channel] + eps);
    for (let i = 0; i < height * width; i++) {
      values[unit] = ((x.values[unit] - mean[channel]) / std) * scale[channel] + shift[channel];
      unit++;
    }
  }
  return { shape: x.shape, values };
}

/** Return the statistics that training stored in a batch norm. */
function storedStatistics({ name }) {
  return { mean: parameters[`${name}.running_mean`].values, variance: parameters[`${name}.running_var`].values };
}

/** Make one number of each window of each channel. */
function pool2d(x, { kernel_size: kernelSize, stride }, summarise) {
  const [channels, height, width] = x.shape;
  const shape = [channels, numPlaces(height, kernelSize[0], stride[0]), numPlaces(width, kernelSize[1], stride[1])];
  const values = new Float64Array(channels * shape[1] * shape[2]);
  const inside = new Float64Array(kernelSize[0] * kernelSize[1]);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < shape[1]; row++) {
      for (let column = 0; column < shape[2]; column++) {
        for (let i = 0; i < kernelSize[0]; i++) {
          const first = (channel * height + row * stride[0] + i) * width + column * stride[1];
          for (let j = 0; j < kernelSize[1]; j++) inside[i * kernelSize[1] + j] = x.values[first + j];
        }
        values[unit++] = summarise(inside);
      }
    }
  }
  return { shape, values };
}

const largest = (values) => Math.max(...values);
const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** One weighted sum of all values for each output, and its bias. */
function linear(x, { name }) {
  const weight = parameters[`${name}.weight`];
  const bias = parameters[`${name}.bias`]; // not there if the layer has none
  const [outFeatures, inFeatures] = weight.shape;
  const values = new Float64Array(outFeatures);
  for (let out = 0; out < outFeatures; out++) {
    if (bias) values[out] = bias.values[out];
    for (let i = 0; i < inFeatures; i++) values[out] += weight.values[out * inFeatures + i] * x.values[i];
  }
  return { shape: [outFeatures, 1, 1], values };
}

/** Turn logits into logarithms of probabilities; the largest is taken off first so that no exponential overflows. */
function logSoftmax(x) {
  const top = largest(x.values);
  let sum = 0;
  for (const value of x.values) sum += Math.exp(value - top);
  return Array.from(x.values, (value) => value - top - Math.log(sum));
}

// What each kind of layer does to one image. A batch norm looks at the whole batch: see forward.
const OPERATIONS = {
  Conv2d: conv2d,
  ReLU: relu,
  MaxPool2d: (x, layer) => pool2d(x, layer, largest),
  AvgPool2d: (x, layer) => pool2d(x, layer, average),
  Linear: linear,
};

function normalise(pixels) {
  return { shape: [1, 28, 28], values: Float64Array.from(pixels, (pixel) => (pixel / 255 - PAGE.mean) / PAGE.std) };
}

/** Return the network's answer to an image of 784 pixels and the map of every stage.

    others: the other images of the batch, if batch norm is to use the batch's own statistics; else null. */
function forward(pixels, others) {
  let batch = [pixels, ...(others || [])].map(normalise);
  const maps = {};
  for (const layer of PAGE.layers) {
    if (layer.kind === "BatchNorm2d") {
      const statistics = others ? batchStatistics(batch) : storedStatistics(layer);
      batch = batch.map((x) => batchNorm2d(x, layer, statistics));
    } else {
      batch = batch.map((x) => OPERATIONS[layer.kind](x, layer));
    }
    maps[layer.stage] = batch[0];
  }
  return { logProbabilities: logSoftmax(batch[0]), maps };
}

/** The same with plain arrays, for the console: see the top of this script. */
function readDigit(pixels, others = null) {
  for (const image of [pixels, ...(others || [])]) {
    if (image.length !== 784) throw new RangeError(`${image.length} pixels: give 784, row by row, from 0 to 255`);
  }
  const { logProbabilities, maps } = forward(pixels, others);
  for (const map of Object.values(maps)) map.values = Array.from(map.values);
  return { logProbabilities, maps };
}

/** Look up in the layer table, which Python computed, what a unit sees. */
function receptiveBox(stage, row, column) {
  const { rows, columns } = PAGE.stages.find(({ name }) => name === stage);
  return [[...rows[row]], [...columns[column]]];
}
