/* What is seen and touched: the drawing, the answer, the maps of all stages, and the boxes on the drawing. */

"use strict";

const COLOURS = ["#ffe066", "#ffb84d", "#ff8a5c", "#ff6b81", "#f783c8", "#c08cff", "#8aa4ff", "#56c8f2", "#5fe3a8"];
const NUM_SHADES = 256; // of a map
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns

const element = (id) => document.getElementById(id);
const pad = element("pad").getContext("2d", { alpha: false, willReadFrequently: true });
const stages = PAGE.stages.map((stage, i) => ({ ...stage, colour: COLOURS[i % COLOURS.length] }));
const digits = PAGE.digits.map((digit) => ({ ...digit, pixels: decodeBytes(digit.bytes) }));

let shown = null; // {pixels, cut, scaled} as toMnist gives them, or {pixels, digit} for a test digit; null when blank
let result = null; // what forward says to it
let pinned = null; // the unit that was clicked, or chosen by keys: {stage, channel, row, column}
let pointed = null; // returns the units that mouse or focus are at
let penAt = { x: 140, y: 140 };
let dirty = false; // a new answer is due with the next frame

/* ---- the drawing ---- */

function clearPad() {
  pad.fillStyle = "#000";
  pad.fillRect(0, 0, pad.canvas.width, pad.canvas.height);
}

function drawLine(from, to) {
  if (shown !== null && shown.digit) {
    shown = null; // a drawing starts on clean paper
    clearPad();
  }
  pad.strokeStyle = "#fff";
  pad.lineWidth = Number(element("pen").value);
  pad.lineCap = pad.lineJoin = "round";
  pad.beginPath();
  pad.moveTo(from.x, from.y);
  pad.lineTo(to.x, to.y);
  pad.stroke();
  answerSoon();
}

function padPoint(event) {
  const { left, top, width } = pad.canvas.getBoundingClientRect();
  const scale = pad.canvas.width / width;
  return { x: (event.clientX - left) * scale, y: (event.clientY - top) * scale };
}

pad.canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  pad.canvas.setPointerCapture(event.pointerId);
  penAt = padPoint(event);
  drawLine(penAt, penAt);
});
pad.canvas.addEventListener("pointermove", (event) => {
  if (!pad.canvas.hasPointerCapture(event.pointerId)) return;
  for (const part of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) {
    const next = padPoint(part);
    drawLine(penAt, next);
    penAt = next;
  }
});
pad.canvas.addEventListener("pointerup", sayAnswer);
pad.canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const inside = (value) => Math.min(Math.max(value, 0), pad.canvas.width);
  const next = { x: inside(penAt.x + 10 * step[1]), y: inside(penAt.y + 10 * step[0]) };
  if (event.shiftKey) drawLine(penAt, next);
  penAt = next;
  showBoxes();
});
for (const event of ["focus", "blur"]) pad.canvas.addEventListener(event, () => showBoxes());

function clearDrawing() {
  clearPad();
  answerDrawing();
  sayAnswer();
}
element("clear").addEventListener("click", clearDrawing);

/* ---- test digits: they are in MNIST's form already and go in as they are ---- */

function paintGrey(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < pixels.length; i++) image.data.set([pixels[i], pixels[i], pixels[i], 255], 4 * i);
  context.putImageData(image, 0, 0);
}

function pickDigit(digit) {
  const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  paintGrey(small, digit.pixels);
  pad.imageSmoothingEnabled = false;
  pad.drawImage(small, 0, 0, pad.canvas.width, pad.canvas.height);
  answer({ pixels: digit.pixels, digit });
  sayAnswer();
}

/** Make a button that shows one of these digits, and the next one when it is pressed again. */
function digitButton(choice, parent) {
  const button = document.createElement("button");
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  button.type = "button";
  button.append(canvas);
  parent.append(button);
  let at = 0;
  const show = () => {
    paintGrey(canvas, choice[at].pixels);
    button.setAttribute("aria-label", `${choice[at].misread ? "A misread" : "A"} ${choice[at].label}`);
    button.setAttribute("aria-pressed", String(shown !== null && shown.digit === choice[at]));
  };
  button.addEventListener("click", () => {
    if (shown !== null && shown.digit === choice[at]) at = (at + 1) % choice.length;
    pickDigit(choice[at]);
  });
  return { button, show };
}

const buttons = [];
for (let label = 0; label < 10; label++) {
  buttons.push(digitButton(digits.filter((digit) => digit.label === label && !digit.misread), element("digits")));
}
for (const digit of digits.filter(({ misread }) => misread)) buttons.push(digitButton([digit], element("misread")));

/* ---- the answer ---- */

function answerSoon() {
  if (!dirty) requestAnimationFrame(answerDrawing);
  dirty = true;
}

/** Read the drawing, prepare it, and show what the network says; return its 784 pixels. */
function answerDrawing() {
  dirty = false;
  return answer(null);
}

function answer(given) {
  const start = performance.now();
  shown = given || toMnist(greyLevels(pad));
  const pixels = shown === null ? new Array(SIDE * SIDE).fill(0) : shown.pixels;
  result = forward(pixels);
  paintGrey(element("seen"), pixels);
  showBars();
  showPreparation();
  for (const stage of stages) showMaps(stage);
  showBoxes();
  for (const { show } of buttons) show();
  element("hint").hidden = !(shown === null || shown.digit);
  const milliseconds = performance.now() - start;
  document.body.dataset.milliseconds = milliseconds.toFixed(2);
  element("time").textContent = `The last answer took ${milliseconds.toFixed(1)} ms.`;
  return Array.from(pixels);
}

const bars = [];
for (let digit = 0; digit < 10; digit++) {
  const item = document.createElement("li");
  item.innerHTML = `${digit} <span><i></i></span> <b></b>`;
  element("bars").append(item);
  bars.push({ item, bar: item.querySelector("i"), text: item.querySelector("b") });
}

function bestDigit() {
  return result.logProbabilities.indexOf(Math.max(...result.logProbabilities));
}

function showBars() {
  bars.forEach(({ item, bar, text }, digit) => {
    const probability = shown === null ? 0 : Math.exp(result.logProbabilities[digit]);
    item.classList.toggle("best", shown !== null && digit === bestDigit());
    bar.style.width = `${100 * probability}%`;
    text.textContent = shown === null ? "" : `${(100 * probability).toFixed(1)}%`;
  });
}

/** Say the answer once a stroke is finished; a screen reader would stumble over every change before. */
function sayAnswer() {
  if (dirty) answerDrawing();
  const says = () => `${bestDigit()} (${(100 * Math.exp(Math.max(...result.logProbabilities))).toFixed(1)}%)`;
  const { digit } = shown || {};
  element("answer").textContent =
    shown === null
      ? "Nothing is drawn."
      : digit
        ? `Test image ${digit.index}, labelled ${digit.label}: the network says ${says()}.`
        : `Your drawing: the network says ${says()}.`;
}

/* ---- the preparation ---- */

function paintInto(canvas, source, box, size) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (box === null) return;
  const [width, height] = size;
  const [x, y] = [Math.floor((canvas.width - width) / 2), Math.floor((canvas.height - height) / 2)];
  context.drawImage(source, ...box, x, y, width, height);
}

function showPreparation() {
  const { cut, scaled } = shown || {};
  if (!cut) {
    for (const id of ["cut", "scaled", "centred"]) paintInto(element(id), null, null);
    element("cut-size").textContent = shown ? "a test digit goes in as it is" : "";
    element("scaled-size").textContent = element("centred-size").textContent = "";
    return;
  }
  const fit = element("cut").width / Math.max(cut.cutWidth, cut.cutHeight);
  const cutBox = [cut.left, cut.top, cut.cutWidth, cut.cutHeight];
  paintInto(element("cut"), pad.canvas, cutBox, [cut.cutWidth * fit, cut.cutHeight * fit]);
  const scaledBox = [scaled.left, scaled.top, scaled.width, scaled.height];
  paintInto(element("scaled"), element("seen"), scaledBox, [scaled.width, scaled.height]);
  paintInto(element("centred"), element("seen"), [0, 0, SIDE, SIDE], [SIDE, SIDE]);
  element("cut-size").textContent = `cut out: ${cut.cutHeight}×${cut.cutWidth}`;
  element("scaled-size").textContent = `scaled: ${scaled.height}×${scaled.width}`;
  element("centred-size").textContent = "centred by mass: 28×28";
}

/* ---- the maps ---- */

/** Return a stage's colours, from black over its own to white, as one number for each step: bytes a, b, g, r. */
function colourScale(colour) {
  const own = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const stops = [[11, 14, 20], own.map((part) => part * 0.55), own, [255, 255, 255]];
  const scale = new Uint32Array(NUM_SHADES);
  for (let step = 0; step < NUM_SHADES; step++) {
    const at = (step / (NUM_SHADES - 1)) * (stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    const [red, green, blue] = stops[i].map((part, k) => Math.round(part + (stops[i + 1][k] - part) * (at - i)));
    scale[step] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return scale;
}

function showMaps({ name, canvases, scale }) {
  const { shape: [channels, height, width], values } = result.maps[name];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const factor = (NUM_SHADES - 1) / (high - low || 1);
  let unit = 0;
  for (let channel = 0; channel < channels; channel++) {
    const { context, image, colours } = canvases[channel];
    for (let i = 0; i < height * width; i++) colours[i] = scale[Math.round((values[unit++] - low) * factor)];
    context.putImageData(image, 0, 0);
  }
}

/** Build a stage's card: its row of the layer table as a heading, below it a small canvas for each channel. */
function buildStage(stage) {
  const { name, operation, input, output, receptiveField, jump, params, colour } = stage;
  const [channels, height, width] = output;
  const by = (shape) => [...shape.slice(1), shape[0]].join("×");
  const card = document.createElement("section");
  card.className = `stage ${name} ${height < 12 || channels > 16 ? "small" : ""}`;
  card.innerHTML = `<h2><button type="button"><span class="dot" style="background:${colour}"></span>${name}</button>
    <span>${operation}</span> <span>${by(input)} → ${by(output)}</span>
    <span>sees ${receptiveField.join("×")}</span> <span>jump ${jump.join("×")}</span>
    <span>${params.toLocaleString("en")} parameters</span></h2><div class="maps" tabindex="0" role="application"></div>`;
  const maps = card.querySelector(".maps");
  maps.setAttribute("aria-label", `${name}: ${channels} maps of ${height} by ${width} units. Arrow keys move the unit.`);
  stage.scale = colourScale(colour);
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
  listen(stage, card.querySelector("button"), maps);
  element("stages").append(card);
}

/* ---- units and what they see ---- */

/** Return the unit with the largest value of a stage, or of one of its channels. */
function strongestUnit(stage, channel = null) {
  const [channels, height, width] = stage.output;
  const { values } = result.maps[stage.name];
  const first = channel === null ? 0 : channel * height * width;
  const end = channel === null ? channels * height * width : first + height * width;
  let best = first;
  for (let i = first; i < end; i++) if (values[i] > values[best]) best = i;
  const within = best % (height * width);
  const place = { channel: Math.floor(best / (height * width)), row: Math.floor(within / width), column: within % width };
  return { stage, ...place };
}

function strongestOfChannels(stage) {
  return stage.canvases.map((_, channel) => strongestUnit(stage, channel));
}

function unitAt(stage, event) {
  const map = event.target.closest(".map");
  if (!map) return null;
  const { left, top, width, height } = map.getBoundingClientRect();
  const [, rows, columns] = stage.output;
  const within = (fraction, side) => Math.min(Math.max(Math.floor(fraction * side), 0), side - 1);
  const row = within((event.clientY - top) / height, rows);
  const column = within((event.clientX - left) / width, columns);
  return { stage, channel: Number(map.dataset.channel), row, column };
}

/** Return the unit that a key leads to; beyond the left and the right edge lies the next channel. */
function unitAfterKey({ stage, channel, row, column }, key) {
  const [channels, height, width] = stage.output;
  const [down, right] = STEPS[key] || [0, 0];
  row += down;
  column += right;
  if (column < 0 && channel > 0) [channel, column] = [channel - 1, width - 1];
  if (column === width && channel < channels - 1) [channel, column] = [channel + 1, 0];
  if (key === "PageUp") channel--;
  if (key === "PageDown") channel++;
  const inside = (value, number) => Math.min(Math.max(value, 0), number - 1);
  return { stage, channel: inside(channel, channels), row: inside(row, height), column: inside(column, width) };
}

function listen(stage, button, maps) {
  maps.addEventListener("pointermove", (event) => {
    const unit = unitAt(stage, event);
    point(unit && (() => [unit]));
  });
  maps.addEventListener("pointerleave", () => point(null));
  maps.addEventListener("pointerdown", (event) => pin(unitAt(stage, event) || pinned));
  maps.addEventListener("focus", () => {
    if (maps.matches(":focus-visible")) pin(strongestUnit(stage)); // reached by keyboard
  });
  maps.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS || ["Home", "PageUp", "PageDown"].includes(event.key))) return;
    event.preventDefault();
    const from = pinned && pinned.stage === stage ? pinned : strongestUnit(stage);
    pin(event.key === "Home" ? strongestUnit(stage) : unitAfterKey(from, event.key));
  });
  for (const event of ["pointerenter", "focus", "click"]) {
    button.addEventListener(event, () => point(() => strongestOfChannels(stage)));
  }
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => point(null));
}

/** Show these units, a function's answer, as long as the mouse or the focus is there. */
function point(units) {
  pointed = units;
  showBoxes();
}

/** Show this unit until another is chosen; null for the strongest of all stages. */
function pin(unit) {
  pinned = unit;
  point(null);
}

/** Return the units whose boxes are to be seen: pointed at, pinned, or else the strongest one of every stage. */
function unitsToShow() {
  if (pointed) return pointed();
  if (pinned) return [pinned];
  return stages.map((stage) => strongestUnit(stage));
}

/** Draw the boxes of these units on the drawing and mark the units in their maps. */
function showBoxes(units = unitsToShow()) {
  for (const mark of document.querySelectorAll(".mark")) mark.remove();
  let drawn = "";
  for (const { stage, channel, row, column } of units) {
    const [[top, bottom], [left, right]] = receptiveBox(stage.name, row, column);
    const place = `x="${left}" y="${top}" width="${right - left + 1}" height="${bottom - top + 1}"`;
    if (units.length === 1) {
      drawn += `<path class="shade" d="M-99-99H199V199H-99Z M${left} ${top}H${right + 1}V${bottom + 1}H${left}Z"/>`;
    }
    drawn += `<rect class="halo" ${place}/><rect class="box" stroke="${stage.colour}" ${place}/>`;
    const mark = document.createElement("div");
    const [, height, width] = stage.output;
    mark.className = "mark";
    mark.style.cssText = `left: ${(100 * (column + 0.5)) / width}%; top: ${(100 * (row + 0.5)) / height}%;
      width: ${100 / width}%; height: ${100 / height}%; outline-color: ${stage.colour}`;
    stage.canvases[channel].map.append(mark);
  }
  const svg = element("pad-boxes");
  svg.setAttribute("viewBox", padInPixels().join(" "));
  svg.innerHTML = drawn + cutOutline() + penCross();
  element("seen-boxes").innerHTML = drawn;
  element("unit").innerHTML = describe(units);
}

/** Return where the pad lies in the network's pixels, [left, top, width, height]: the inverse of the preparation. */
function padInPixels() {
  const { cut, scaled } = shown || {};
  if (!cut) return [0, 0, SIDE, SIDE];
  const [across, down] = [scaled.width / cut.cutWidth, scaled.height / cut.cutHeight];
  const scale = Math.max(cut.cutWidth, cut.cutHeight) === cut.cutWidth ? across : down;
  return [scaled.left - cut.left * scale, scaled.top - cut.top * scale, pad.canvas.width * scale, pad.canvas.height * scale];
}

function cutOutline() {
  const { cut, scaled } = shown || {};
  if (!cut) return "";
  return `<rect class="cut" x="${scaled.left}" y="${scaled.top}" width="${scaled.width}" height="${scaled.height}"/>`;
}

function penCross() {
  if (!pad.canvas.matches(":focus-visible")) return "";
  const [left, top, width] = padInPixels();
  const scale = width / pad.canvas.width;
  const [x, y, arm] = [left + penAt.x * scale, top + penAt.y * scale, 8 * scale];
  return `<path class="pen" d="M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}"/>`;
}

function describe(units) {
  const [{ stage, channel, row, column }] = units;
  const dot = `<span class="dot" style="background:${stage.colour}"></span>`;
  if (units.length === 1) {
    const [[top, bottom], [left, right]] = receptiveBox(stage.name, row, column);
    const [, height, width] = stage.output;
    const value = result.maps[stage.name].values[(channel * height + row) * width + column];
    return `${dot}<strong>${stage.name}</strong>, channel ${channel}, unit (${row}, ${column}): ${value.toFixed(2)}.
      It sees rows ${top} to ${bottom}, columns ${left} to ${right}.`;
  }
  if (units.every((unit) => unit.stage === stage)) {
    return `${dot}<strong>${stage.name}</strong>: the strongest unit of each of its ${units.length} channels.`;
  }
  return "The strongest unit of every layer and what it sees. Point at a unit, or at a layer's name.";
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key >= "0" && event.key <= "9") buttons[Number(event.key)].button.click();
  if (event.key === "c") clearDrawing();
  if (event.key === "Escape") pin(null);
});

element("num-parameters").textContent = PAGE.numParameters.toLocaleString("en");
stages.forEach(buildStage);
clearPad();
pickDigit(digits[0]);
