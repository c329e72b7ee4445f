/* ---------- paint: heat, marks and windows over the photo ---------- */

const photo = $("photo");
const DECADES = 3;

/** Return the values of the cells of an answer, null outside its window. */
function cells(answer, row = shownRow(answer)) {
  const { layout, window } = answer, found = [];
  const start = layout.prefix.length, end = start + layout.grid[0] * layout.grid[1];
  for (let token = start; token < end; token++) found.push(window && !window[token] ? null : row[token]);
  return found;
}

/** Return [low, high] of the scale, by its name. */
function limits(values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return [0, 0];
  const high = known.reduce((one, other) => Math.max(one, other));
  if (state.view === "norms") return [known.reduce((one, other) => Math.min(one, other)), high];
  if (state.scale === "percentile") {
    const ordered = known.slice().sort((a, b) => a - b);
    return [0, ordered[Math.round(0.99 * (ordered.length - 1))]];
  }
  return [state.scale === "logarithm" ? high * 10 ** -DECADES : 0, high];
}

function placed(value, [low, high]) {
  if (!(high > low)) return 0;
  const part = state.scale === "logarithm" && state.view !== "norms"
    ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.min(1, Math.max(0, part));
}

function colour(place) {
  const stops = data.colormaps[state.colormap], at = place * (stops.length - 1);
  const low = Math.floor(at), high = Math.min(low + 1, stops.length - 1), part = at - low;
  return stops[low].map((value, i) => Math.round(value + part * (stops[high][i] - value)));
}

// Paint is as thick as the value is high, as in the galleries.
const thickness = (place) => 0.12 + 0.88 * place;

function tile(answer, values, scale) {
  const [rows, cols] = answer.layout.grid;
  const small = new OffscreenCanvas(cols, rows), context = small.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  values.forEach((value, i) => {
    if (value === null) {
      pixels.data.set([16, 16, 18, 150], 4 * i);
      return;
    }
    const place = placed(value, scale);
    pixels.data.set([...colour(place), Math.round(255 * state.opacity * thickness(place))], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return small;
}

function onPixels([top, left, bottom, right], width, height) {
  return [left * width, top * height, (right - left) * width, (bottom - top) * height];
}

/** Draw a heat over a canvas that already shows the photo or lies over it. */
function drawHeat(context, answer, row, width, height) {
  const values = cells(answer, row), scale = limits(values);
  if (!(scale[1] > scale[0])) return;
  context.imageSmoothingEnabled = state.smooth && !answer.window;
  context.imageSmoothingQuality = "high";
  context.drawImage(tile(answer, values, scale), ...onPixels(gridBox(answer.layout), width, height));
}

function drawUnseen(context, width, height) {
  const [x, y, w, h] = onPixels(seenBox(), width, height);
  if (x < 1 && y < 1 && x + w > width - 1 && y + h > height - 1) return;
  const outside = new Path2D();
  outside.rect(0, 0, width, height);
  outside.rect(x, y, w, h);
  context.fillStyle = "rgb(110 112 116 / .78)";
  context.fill(outside, "evenodd");
}

function outlined(context, path, colour, width) {
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / .75)";
  context.lineWidth = width + 2.5;
  context.stroke(path);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
}

// The border of a set of tokens: the sides of its cells behind which there is no other of them.
function border(layout, held, width, height) {
  const [rows, cols] = layout.grid, path = new Path2D();
  const has = (row, col) => row >= 0 && col >= 0 && row < rows && col < cols && held[tokenAt(layout, row, col)];
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      if (!has(row, col)) continue;
      const [x, y, w, h] = onPixels(cellBox(layout, row, col), width, height);
      const line = (x1, y1, x2, y2) => { path.moveTo(x1, y1); path.lineTo(x2, y2); };
      if (!has(row - 1, col)) line(x, y, x + w, y);
      if (!has(row + 1, col)) line(x, y + h, x + w, y + h);
      if (!has(row, col - 1)) line(x, y, x, y + h);
      if (!has(row, col + 1)) line(x + w, y, x + w, y + h);
    }
  }
  return path;
}

function drawMarks(context, step, width, height) {
  const marks = data.marks[step.layer];
  if (!marks || !state.marks) return;
  const around = (layout, patch, shape) => {
    const [x, y, w, h] = onPixels(cellBox(layout, ...cellOf(layout, patch + layout.prefix.length)), width, height);
    const path = new Path2D(), size = Math.max(3.5, 0.3 * Math.min(w, h));
    shape(path, x + w / 2, y + h / 2, size);
    outlined(context, path, "#fff", 1.75);
  };
  for (const patch of marks.outliers ?? []) around(step.after, patch, (path, x, y, size) => path.arc(x, y, size, 0, 7));
  for (const patch of marks.sinks ?? []) {
    around(step.before, patch, (path, x, y, size) => {
      path.moveTo(x, y - size); path.lineTo(x + size, y); path.lineTo(x, y + size); path.lineTo(x - size, y); path.closePath();
    });
  }
}

function drawSelection(context, answer, width, height) {
  const { selection } = state, layout = answer?.sourceLayout ?? layers[shownPlace()].after;
  if (!selection || !layout.grid[0] || !["point", "area"].includes(selection.kind) || state.view === "norms") return;
  const held = new Uint8Array(count(layout));
  for (const token of chosenTokens(layout, selection)) held[token] = 1;
  outlined(context, border(layout, held, width, height), "#ff4fa3", 2.5);
}

function fitted(canvas) {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  context.scale(ratio, ratio);
  return [context, width / ratio, height / ratio];
}

function drawAll(context, width, height) {
  const answer = shown(), row = shownRow(answer);
  if (row && state.heat) drawHeat(context, answer, row, width, height);
  drawUnseen(context, width, height);
  if (row && answer.window) outlined(context, border(answer.layout, answer.window, width, height), "#fff", 1.5);
  drawMarks(context, layers[shownPlace()], width, height);
  drawSelection(context, answer, width, height);
}

const paintStage = () => drawAll(...fitted($("heat")));

/** Save what the stage shows, at twice its size on the screen. */
async function savePicture() {
  const box = $("heat").getBoundingClientRect(), sharp = 2;
  const canvas = new OffscreenCanvas(Math.round(sharp * box.width), Math.round(sharp * box.height));
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  context.drawImage(photo, 0, 0, box.width, box.height);
  drawAll(context, box.width, box.height);
  const link = document.createElement("a"), where = `${state.view} ${layerName(layers[shownPlace()])}${state.head === null || !hasHeads() ? "" : ` head ${state.head}`}`;
  link.href = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  link.download = `${data.name} ${where}.png`.replace(/[^\p{L}\p{N} ._-]/gu, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function paintThumb(canvas, answer, row) {
  const [context, width, height] = fitted(canvas);
  context.globalAlpha = 0.55;
  context.drawImage(photo, 0, 0, width, height);
  context.globalAlpha = 1;
  if (answer && !answer.reason && row) drawHeat(context, answer, row, width, height);
  drawUnseen(context, width, height);
}
