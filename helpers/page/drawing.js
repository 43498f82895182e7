/* The drawing, made by mouse, finger, pen or keys, or a test digit in its place; at the end, the page is started. */

"use strict";

const KEY_STEP = 10; // of the pad's 280 pixels

const pad = element("pad").getContext("2d", { alpha: false, willReadFrequently: true });
const digits = PAGE.digits.map((digit) => ({ ...digit, pixels: decodeBytes(digit.bytes) }));
const firstDigits = digits.filter(({ label }, i) => digits.findIndex((other) => other.label === label) === i); // by class

let penAt = { x: 140, y: 140 };

function clearPad() {
  pad.fillStyle = "#000";
  pad.fillRect(0, 0, pad.canvas.width, pad.canvas.height);
}

function clearDrawing() {
  clearPad();
  answerDrawing();
  sayAnswer();
}

/** Draw a line from where the pen is to the next place. */
function drawTo(next) {
  if (prepared !== null && prepared.digit) {
    prepared = null; // a drawing starts on clean paper
    clearPad();
  }
  pad.strokeStyle = "#fff";
  pad.lineWidth = Number(element("pen").value);
  pad.lineCap = "round";
  pad.beginPath();
  pad.moveTo(penAt.x, penAt.y);
  pad.lineTo(next.x, next.y);
  pad.stroke();
  penAt = next;
  answerSoon();
}

/** Be calm while a stroke is drawn: boxes would jump about, and a screen reader would read each of them out. */
function beginStroke() {
  pad.canvas.parentElement.classList.add("busy");
  element("unit").setAttribute("aria-live", "off");
}

function endStroke() {
  pad.canvas.parentElement.classList.remove("busy");
  element("unit").setAttribute("aria-live", "polite");
  sayAnswer();
}

function padPoint(event) {
  const { left, top, width } = pad.canvas.getBoundingClientRect();
  const scale = pad.canvas.width / width;
  return { x: (event.clientX - left) * scale, y: (event.clientY - top) * scale };
}

pad.canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  pad.canvas.setPointerCapture(event.pointerId);
  beginStroke();
  penAt = padPoint(event);
  drawTo(penAt);
});
pad.canvas.addEventListener("pointermove", (event) => {
  if (!pad.canvas.hasPointerCapture(event.pointerId)) return;
  const parts = event.getCoalescedEvents ? event.getCoalescedEvents() : []; // all places since the last frame
  for (const part of parts.length ? parts : [event]) drawTo(padPoint(part));
});
for (const event of ["pointerup", "pointercancel"]) pad.canvas.addEventListener(event, endStroke);

pad.canvas.addEventListener("keydown", (event) => {
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  const [down, right] = STEPS[event.key];
  const inside = (value) => Math.min(Math.max(value, 0), pad.canvas.width);
  const next = { x: inside(penAt.x + KEY_STEP * right), y: inside(penAt.y + KEY_STEP * down) };
  if (event.shiftKey) drawTo(next);
  penAt = next;
  showUnits();
});
pad.canvas.addEventListener("keyup", (event) => {
  if (event.key === "Shift") sayAnswer();
});
for (const event of ["focus", "blur"]) pad.canvas.addEventListener(event, () => showUnits());

/** Return where the pad lies in the network's 28x28 pixels, [left, top, width, height]: the steps of toMnist undone. */
function padInPixels() {
  const { cut, scaled } = prepared || {};
  if (!cut) return [0, 0, SIDE, SIDE];
  const scale = INK_SIDE / Math.max(cut.cutWidth, cut.cutHeight);
  const { width, height } = pad.canvas;
  return [scaled.left - cut.left * scale, scaled.top - cut.top * scale, width * scale, height * scale];
}

/** Return a dashed line around what is cut out. */
function cutOutline() {
  const { cut, scaled } = prepared || {};
  if (!cut) return "";
  return `<rect class="cut" x="${scaled.left}" y="${scaled.top}" width="${scaled.width}" height="${scaled.height}"/>`;
}

/** Return a cross where the pen is, for people who draw by keys. */
function penCross() {
  if (!pad.canvas.matches(":focus-visible")) return "";
  const [left, top, width] = padInPixels();
  const scale = width / pad.canvas.width;
  const [x, y, arm] = [left + penAt.x * scale, top + penAt.y * scale, 8 * scale];
  return `<path class="pen" d="M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}"/>`;
}

function paintGrey(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < pixels.length; i++) {
    image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = pixels[i]; // red, green, blue
    image.data[4 * i + 3] = 255; // opaque
  }
  context.putImageData(image, 0, 0);
}

/** Show a test digit, enlarged. It is in MNIST's form already, so the network gets it as it is. */
function pickDigit(digit) {
  const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  paintGrey(small, digit.pixels);
  pad.imageSmoothingEnabled = false;
  pad.drawImage(small, 0, 0, pad.canvas.width, pad.canvas.height);
  answer({ pixels: digit.pixels, digit });
  sayAnswer();
}

/** Add a button that shows the first of these digits, and the next one each time it is pressed again. */
function addDigitButton(choice, parent) {
  const button = document.createElement("button");
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  button.type = "button";
  button.append(canvas);
  parent.append(button);
  let at = 0;
  const isShown = () => prepared !== null && prepared.digit === choice[at];
  const press = () => button.setAttribute("aria-pressed", String(isShown()));
  const show = () => {
    paintGrey(canvas, choice[at].pixels);
    button.setAttribute("aria-label", `${choice[at].misread ? "misread" : "test digit"} ${choice[at].label}`);
  };
  button.addEventListener("click", () => {
    if (isShown()) at = (at + 1) % choice.length;
    show();
    pickDigit(choice[at]);
  });
  show();
  return { button, press };
}

const digitButtons = [];
for (let label = 0; label < 10; label++) {
  const choice = digits.filter(({ label: own }) => own === label).slice(0, 2); // as choose_digits has it
  digitButtons.push(addDigitButton(choice, element("digits")));
}
for (const digit of digits.filter(({ misread }) => misread).slice(0, 10)) { // a row of them
  digitButtons.push(addDigitButton([digit], element("misread")));
}

element("clear").addEventListener("click", clearDrawing);
element("statistics").addEventListener("change", changeStatistics);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return; // a list has its own keys
  if (event.key >= "0" && event.key <= "9") digitButtons[Number(event.key)].button.click();
  if (event.key === "c") clearDrawing();
  if (event.key === "Escape") pin(null);
});

element("num-layers").textContent = stages.length;
element("num-parameters").textContent = PAGE.numParameters.toLocaleString("en");
buildLayerChoice();
for (const stage of stages) listen(stage, buildCard(stage));
clearPad();
explainStatistics();
pickDigit(digits.find(({ label }) => label === 3)); // a picture to begin with
