/* The answer: what the network makes of the drawing, and the steps from the drawing to the 28x28 pixels. */

"use strict";

let prepared = null; // {pixels, cut, scaled} as toMnist gives it, {pixels, digit} for a test digit; null when blank
let result = null; // what forward returns for it
let waiting = false; // whether the drawing has changed and the next frame will answer it

// Whose statistics batch norm can use: `others` are the other images of the batch, null if it uses the stored ones.
const STATISTICS = {
  stored: {
    others: () => null,
    note: `Eval mode: batch norm uses the means and variances that it stored in training, so the answer depends on your
      digit alone. Choose another to see what train mode would do.`,
  },
  one: {
    others: () => [],
    note: `Train mode without dropout, in a batch of one: every channel is brought to the same mean and variance, so how
      strongly it responded is lost. Digits with little ink are often misread: try a 1.`,
  },
  eleven: {
    others: () => firstDigits.map(({ pixels }) => pixels),
    note: `Train mode without dropout, in a batch with one test digit of each class: most answers are right again, but
      each now depends on the other ten digits, too. Eval mode prevents that.`,
  },
};

/** Answer with the next frame: a fast pen moves several times before it. */
function answerSoon() {
  if (!waiting) requestAnimationFrame(() => waiting && answerDrawing());
  waiting = true;
}

/** Show the answer to the drawing as it is now; return the 784 pixels that went in. */
function answerDrawing() {
  return answer(null);
}

/** Show the answer to what is prepared, or, if nothing is, to the drawing; return the 784 pixels that went in. */
function answer(known) {
  const start = performance.now();
  waiting = false;
  prepared = known || toMnist(greyLevels(pad));
  const pixels = prepared === null ? new Array(SIDE * SIDE).fill(0) : prepared.pixels;
  result = forward(pixels, STATISTICS[element("statistics").value].others());
  paintGrey(element("seen"), pixels);
  showBars();
  showPreparation();
  for (const stage of stages) paintMaps(stage, result.maps[stage.name]);
  showUnits();
  for (const { press } of digitButtons) press();
  element("hint").hidden = prepared !== null && !prepared.digit;
  element("stages").classList.toggle("blank", prepared === null);
  const milliseconds = performance.now() - start;
  document.body.dataset.milliseconds = milliseconds;
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
    const probability = prepared === null ? 0 : Math.exp(result.logProbabilities[digit]);
    item.classList.toggle("best", prepared !== null && digit === bestDigit());
    bar.style.width = `${100 * probability}%`;
    text.textContent = prepared === null ? "" : `${(100 * probability).toFixed(1)}%`;
  });
}

/** Say what batch norm uses and what follows from that; without a batch norm there is nothing to choose. */
function explainStatistics() {
  const hasBatchNorm = PAGE.layers.some(({ kind }) => kind === "BatchNorm2d");
  element("statistics-choice").hidden = element("statistics-note").hidden = !hasBatchNorm;
  element("statistics-note").textContent = STATISTICS[element("statistics").value].note;
}

/** Answer once more, by what batch norm is to use from now on. */
function changeStatistics() {
  explainStatistics();
  answer(prepared);
  sayAnswer();
}

/** Say the answer in words, once a stroke is finished. */
function sayAnswer() {
  if (waiting) answerDrawing();
  element("answer").textContent = inWords();
}

function inWords() {
  if (prepared === null) return "Nothing is drawn yet.";
  const percent = (100 * Math.exp(Math.max(...result.logProbabilities))).toFixed(1);
  const says = `the network reads ${bestDigit()} (${percent}%).`;
  const { digit } = prepared;
  return digit ? `Test image ${digit.index}, labelled ${digit.label}: ${says}` : `Your drawing: ${says}`;
}

/** Show the steps from the drawing to the 28x28 pixels; a test digit has none. */
function showPreparation() {
  const { cut, scaled } = prepared || {};
  element("steps").hidden = !cut;
  element("no-steps").hidden = Boolean(cut);
  if (!cut) return;
  const fit = element("cut").width / Math.max(cut.cutWidth, cut.cutHeight);
  const cutBox = [cut.left, cut.top, cut.cutWidth, cut.cutHeight];
  paintInto(element("cut"), pad.canvas, cutBox, cut.cutWidth * fit, cut.cutHeight * fit);
  const scaledBox = [scaled.left, scaled.top, scaled.width, scaled.height];
  paintInto(element("scaled"), element("seen"), scaledBox, scaled.width, scaled.height);
  paintInto(element("centred"), element("seen"), [0, 0, SIDE, SIDE], SIDE, SIDE);
  element("cut-size").textContent = `${cut.cutHeight}×${cut.cutWidth}`;
  element("scaled-size").textContent = `${scaled.height}×${scaled.width}`;
}

/** Paint a part of another canvas, in this width and height, into the middle of a small one. */
function paintInto(canvas, source, box, width, height) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const [x, y] = [Math.floor((canvas.width - width) / 2), Math.floor((canvas.height - height) / 2)];
  context.drawImage(source, ...box, x, y, width, height);
}
