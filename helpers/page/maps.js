/* The feature maps: a card for each stage, with its row of the layer table and a small canvas for each channel. */

"use strict";

const COLOURS = ["#ffe066", "#ffb84d", "#ff8a5c", "#ff6b81", "#f783c8", "#c08cff", "#8aa4ff", "#56c8f2", "#5fe3a8"];
const NUM_SHADES = 256;
const MANY_CHANNELS = 8; // more of them than this, if their maps are small, stand closer together
const SMALL_MAP = 12; // units on a side, at most

const element = (id) => document.getElementById(id);
const stages = PAGE.stages.map((stage, i) => ({ ...stage, colour: COLOURS[i % COLOURS.length] }));

/** Return a stage's shades, from black through its own colour to white, each as one number: bytes alpha, b, g, r. */
function shadesOf(colour) {
  const own = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const stops = [[11, 14, 20], own.map((part) => part * 0.55), own, [255, 255, 255]];
  const shades = new Uint32Array(NUM_SHADES);
  for (let shade = 0; shade < NUM_SHADES; shade++) {
    const at = (shade / (NUM_SHADES - 1)) * (stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    const [red, green, blue] = stops[i].map((part, k) => Math.round(part + (stops[i + 1][k] - part) * (at - i)));
    shades[shade] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return shades;
}

/** Add a stage's card to the page; return the element that holds its maps. */
function buildCard(stage) {
  const { name, operation, input, output, receptiveField, jump, params, colour } = stage;
  const [channels, height, width] = output;
  const by = (shape) => [...shape.slice(1), shape[0]].join("×");
  const card = document.createElement("section");
  card.className = "stage";
  card.dataset.name = name;
  if (height * width === 1) card.classList.add("vector");
  else if (channels > MANY_CHANNELS && height <= SMALL_MAP) card.classList.add("small");
  card.innerHTML = `<h2><button type="button"><span class="dot" style="background:${colour}"></span>${name}</button>
    <span>${operation}</span> <span>${by(input)} → ${by(output)}</span>
    <span>sees ${receptiveField.join("×")}</span> <span>jump ${jump.join("×")}</span>
    <span>${params.toLocaleString("en")} parameters</span></h2><div class="maps" tabindex="0" role="application"></div>`;
  const maps = card.querySelector(".maps");
  maps.setAttribute("aria-label", `${name}: ${channels} maps of ${height} by ${width} units; arrow keys move the unit`);
  stage.button = card.querySelector("button");
  stage.shades = shadesOf(colour);
  stage.canvases = [];
  for (let channel = 0; channel < channels; channel++) {
    const map = document.createElement("div");
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    map.className = "map";
    map.dataset.channel = channel;
    map.append(canvas);
    maps.append(map);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    stage.canvases.push({ map, context, image, colours: new Uint32Array(image.data.buffer) });
  }
  element("stages").append(card);
  return maps;
}

/** Paint a stage's maps: its lowest value black, its highest white. */
function paintMaps({ canvases, shades }, { shape, values }) {
  const [channels, height, width] = shape;
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const factor = (NUM_SHADES - 1) / (high - low || 1);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    const { context, image, colours } = canvases[channel];
    for (let i = 0; i < height * width; i++) colours[i] = shades[Math.round((values[unit++] - low) * factor)];
    context.putImageData(image, 0, 0);
  }
}
