/* Units and what they see: which units are shown, and the boxes of what they see on the drawing.

   A unit is {stage, channel, row, column}. A channel's strongest unit is the one with the highest value. */

"use strict";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns

const ALL_STAGES = "every layer"; // a choice beside the stages' names

let pinned = null; // the unit that was clicked, or chosen by keys
let pointed = null; // a function that returns the units which the mouse or the focus is on

/** Return the strongest unit of a stage, or of one of its channels. */
function strongestUnit(stage, channel = null) {
  const [channels, height, width] = stage.output;
  const { values } = result.maps[stage.name];
  const first = channel === null ? 0 : channel * height * width;
  const end = channel === null ? channels * height * width : first + height * width;
  let best = first;
  for (let i = first; i < end; i++) if (values[i] > values[best]) best = i;
  const column = best % width;
  const row = ((best - column) / width) % height;
  return { stage, channel: Math.floor(best / (height * width)), row, column };
}

/** Return the strongest unit of each channel of a stage. */
function strongestOfChannels(stage) {
  return stage.canvases.map((_, channel) => strongestUnit(stage, channel));
}

/** Return the unit under the mouse or the finger; null between two maps. */
function unitAt(stage, event) {
  const map = event.target.closest(".map");
  if (map === null) return null;
  const { left, top, width, height } = map.getBoundingClientRect();
  const [, rows, columns] = stage.output;
  const index = (fraction, number) => Math.min(Math.max(Math.floor(fraction * number), 0), number - 1);
  const row = index((event.clientY - top) / height, rows);
  const column = index((event.clientX - left) / width, columns);
  return { stage, channel: Number(map.dataset.channel), row, column };
}

/** Return the unit that a key leads to; beyond the left or the right edge of a map lies the next channel. */
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

/** Let a stage's card answer to mouse, finger and keys. */
function listen(stage, maps) {
  maps.addEventListener("pointermove", (event) => {
    const unit = unitAt(stage, event);
    if (event.buttons) pin(unit || pinned);
    else point(unit && (() => [unit]));
  });
  maps.addEventListener("pointerleave", () => point(null));
  maps.addEventListener("pointerdown", (event) => {
    event.target.releasePointerCapture(event.pointerId); // so that a finger can go on to the next map
    pin(unitAt(stage, event) || pinned);
  });
  maps.addEventListener("focus", () => {
    if (maps.matches(":focus-visible")) pin(strongestUnit(stage)); // reached by keyboard
  });
  maps.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS || ["Home", "PageUp", "PageDown"].includes(event.key))) return;
    event.preventDefault();
    const from = pinned && pinned.stage === stage ? pinned : strongestUnit(stage);
    pin(event.key === "Home" ? strongestUnit(stage) : unitAfterKey(from, event.key));
  });
  for (const event of ["pointerenter", "focus"]) {
    stage.button.addEventListener(event, () => point(() => strongestOfChannels(stage)));
  }
  for (const event of ["pointerleave", "blur"]) stage.button.addEventListener(event, () => point(null));
  stage.button.addEventListener("click", () => chooseLayer(stage.name));
}

/** Show what this stage sees, or every stage, until something is pointed at or pinned. */
function chooseLayer(name) {
  element("seen-by").value = name;
  pin(null);
}

/** Fill the list of stages; the first one is chosen at first, whose few small boxes hide little. */
function buildLayerChoice() {
  const choice = element("seen-by");
  for (const name of [...stages.map((stage) => stage.name), ALL_STAGES]) choice.add(new Option(name));
  choice.addEventListener("change", () => chooseLayer(choice.value));
}

/** Show the units that a function returns, as long as the mouse or the focus is there; null for none. */
function point(units) {
  pointed = units;
  showUnits();
}

/** Show this unit until another is chosen; null to return to what is chosen in the list. */
function pin(unit) {
  pinned = unit;
  point(null);
}

/** Return the units to be shown: those pointed at, else the pinned one, else the strongest ones of what is chosen. */
function unitsToShow() {
  if (pointed) return pointed();
  if (pinned) return [pinned];
  if (prepared === null) return [];
  const chosen = element("seen-by").value;
  if (chosen === ALL_STAGES) return stages.map((stage) => strongestUnit(stage));
  return strongestOfChannels(stages.find(({ name }) => name === chosen));
}

/** Draw the boxes of these units on the drawing, mark the units in their maps, and say what they are. */
function showUnits(units = unitsToShow()) {
  for (const mark of document.querySelectorAll(".mark")) mark.remove();
  const halos = [];
  const boxes = [];
  for (const unit of units) {
    const { stage, channel, row, column } = unit;
    const [[top, bottom], [left, right]] = receptiveBox(stage.name, row, column);
    const place = `x="${left}" y="${top}" width="${right - left + 1}" height="${bottom - top + 1}"`;
    halos.push(`<rect class="halo" ${place}/>`);
    boxes.unshift(`<rect class="box" stroke="${stage.colour}" ${place}/>`); // later ones are larger: they go below
    stage.canvases[channel].map.append(markOf(unit));
  }
  const drawn = (units.length === 1 ? shadeAround(units[0]) : "") + halos.join("") + boxes.join("");
  element("seen-boxes").innerHTML = drawn;
  element("pad-boxes").innerHTML = cutOutline() + drawn + penCross();
  element("pad-boxes").setAttribute("viewBox", padInPixels().join(" "));
  element("unit").innerHTML = describe(units);
  const chosen = element("seen-by").value;
  for (const { name, button } of stages) button.setAttribute("aria-pressed", String(name === chosen));
}

function markOf({ stage, row, column }) {
  const [, height, width] = stage.output;
  const mark = document.createElement("div");
  mark.className = "mark";
  mark.style.cssText = `left: ${(100 * (column + 0.5)) / width}%; top: ${(100 * (row + 0.5)) / height}%;
    width: ${100 / width}%; height: ${100 / height}%`;
  return mark;
}

/** Return a shade over everything that a unit does not see. */
function shadeAround({ stage, row, column }) {
  const [[top, bottom], [left, right]] = receptiveBox(stage.name, row, column);
  return `<path class="shade" d="M-999-999H999V999H-999Z M${left} ${top}H${right + 1}V${bottom + 1}H${left}Z"/>`;
}

function describe(units) {
  if (units.length === 0) return "Draw a digit, or pick one.";
  const [{ stage, channel, row, column }] = units;
  const name = `<span class="dot" style="background:${stage.colour}"></span><strong>${stage.name}</strong>`;
  if (units.length === 1) {
    const [[top, bottom], [left, right]] = receptiveBox(stage.name, row, column);
    const [, height, width] = stage.output;
    const value = result.maps[stage.name].values[(channel * height + row) * width + column];
    return `${name}, channel ${channel}, unit (${row}, ${column}): ${value.toFixed(2)}.
      It sees rows ${top} to ${bottom}, columns ${left} to ${right}.`;
  }
  if (units.every((unit) => unit.stage === stage)) {
    return `${name}: the strongest unit of each of its ${units.length} channels, and what it sees.`;
  }
  return "The strongest unit of each layer, and what it sees. Point at any unit, or at a layer's name.";
}
