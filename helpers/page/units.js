/* Units and what they see: which ones are pointed at or strongest, and their boxes on the drawing.

   A unit is {stage, channel, row, column}. */

"use strict";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns

let pinned = null; // the unit that was clicked, or chosen by keys
let pointed = null; // a function: returns the units that mouse or focus are at

/** Return the unit with the largest value of a stage, or of one of its channels. */
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

/** Let a stage's card answer to mouse, finger and keys. */
function listen(stage, { button, maps }) {
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
  const strongestOfChannels = () => stage.canvases.map((_, channel) => strongestUnit(stage, channel));
  for (const event of ["pointerenter", "focus", "click"]) {
    button.addEventListener(event, () => point(strongestOfChannels));
  }
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => point(null));
}

/** Show the units that a function returns, as long as the mouse or the focus is there. */
function point(units) {
  pointed = units;
  showUnits();
}

/** Show this unit until another is chosen; null for the strongest ones of all stages. */
function pin(unit) {
  pinned = unit;
  point(null);
}

/** Return the units to be shown: those pointed at, the pinned one, or else, of a digit, each stage's strongest. */
function unitsToShow() {
  if (pointed) return pointed();
  if (pinned) return [pinned];
  if (prepared === null) return [];
  return stages.map((stage) => strongestUnit(stage));
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
    boxes.unshift(`<rect class="box" stroke="${stage.colour}" ${place}/>`); // the largest ones below
    stage.canvases[channel].map.append(markOf(unit));
  }
  const drawn = (units.length === 1 ? shadeAround(units[0]) : "") + halos.join("") + boxes.join("");
  element("seen-boxes").innerHTML = drawn;
  element("pad-boxes").innerHTML = cutOutline() + drawn + penCross();
  element("pad-boxes").setAttribute("viewBox", padInPixels().join(" "));
  element("unit").innerHTML = describe(units);
}

function markOf({ stage, row, column }) {
  const [, height, width] = stage.output;
  const mark = document.createElement("div");
  mark.className = "mark";
  mark.style.cssText = `left: ${(100 * (column + 0.5)) / width}%; top: ${(100 * (row + 0.5)) / height}%;
    width: ${100 / width}%; height: ${100 / height}%`;
  return mark;
}

/** Return a shade over all that a unit does not see. */
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
    return `${name}: the strongest unit of each of its ${units.length} channels.`;
  }
  return "The strongest unit of every layer, and what it sees. Point at any unit, or at a layer's name.";
}
