/* ---------- place: tokens, model input and photo ---------- */

const [scaleY, scaleX, offsetY, offsetX] = data.toOriginal;
const [photoHeight, photoWidth] = data.original;
const [inputHeight, inputWidth] = data.input;
const first = steps.length ? steps[0].before : data.end;

// Boxes are [top, left, bottom, right]; on the photo in shares of its height and width.
const toPhoto = ([top, left, bottom, right]) => [
  (scaleY * top + offsetY) / photoHeight, (scaleX * left + offsetX) / photoWidth,
  (scaleY * bottom + offsetY) / photoHeight, (scaleX * right + offsetX) / photoWidth,
];
const toInput = (y, x) => [(y * photoHeight - offsetY) / scaleY, (x * photoWidth - offsetX) / scaleX];
const gridBox = ({ grid, cell }) => toPhoto([0, 0, grid[0] * cell[0], grid[1] * cell[1]]);
const cellBox = ({ cell }, row, col) => toPhoto([row * cell[0], col * cell[1], (row + 1) * cell[0], (col + 1) * cell[1]]);
const seenBox = () => toPhoto([0, 0, inputHeight, inputWidth]);

/** Return [row, col] of the cell under a point of the input, or null outside the grid. */
function cellAt({ grid, cell }, y, x) {
  const row = Math.floor(y / cell[0]), col = Math.floor(x / cell[1]);
  return row < 0 || col < 0 || row >= grid[0] || col >= grid[1] ? null : [row, col];
}

const tokenAt = (layout, row, col) => layout.prefix.length + row * layout.grid[1] + col;
const cellOf = (layout, token) => {
  const patch = token - layout.prefix.length;
  return [Math.floor(patch / layout.grid[1]), patch % layout.grid[1]];
};
const centre = (layout, row, col) => [(row + 0.5) * layout.cell[0], (col + 0.5) * layout.cell[1]];

// As TokenLayout.covering: the token that covers a point, the last one where the grid ends before it.
function covering(layout, y, x) {
  const row = Math.min(Math.max(0, Math.floor(y / layout.cell[0])), layout.grid[0] - 1);
  const col = Math.min(Math.max(0, Math.floor(x / layout.cell[1])), layout.grid[1] - 1);
  return tokenAt(layout, row, col);
}

function inside(layout, [top, left, bottom, right]) {
  const found = [];
  for (let row = 0; row < layout.grid[0]; row++) {
    for (let col = 0; col < layout.grid[1]; col++) {
      const [y, x] = centre(layout, row, col);
      if (y >= top && y <= bottom && x >= left && x <= right) found.push(tokenAt(layout, row, col));
    }
  }
  return found.length ? found : [covering(layout, (top + bottom) / 2, (left + right) / 2)];
}

/** Return the tokens of a layout that a selection means; none for a prefix token it does not have. */
function chosenTokens(layout, selection) {
  if (selection.kind === "prefix") {
    const place = layout.prefix.indexOf(selection.name);
    return place < 0 ? [] : [place];
  }
  if (!layout.grid[0]) return [];
  return selection.kind === "area" ? inside(layout, selection.box) : [covering(layout, selection.y, selection.x)];
}

function averaged(layout, tokens) {
  const row = zeros(count(layout));
  for (const token of tokens) row[token] = 1 / tokens.length;
  return row;
}

/** Return which tokens before a step the windows of a row's tokens hold, or null without windows. */
function windowOf(step, row) {
  if (step.placements.every(({ operation }) => operation.windows === 1)) return null;
  const held = new Uint8Array(count(step.before));
  for (const { queries, keys, operation } of step.placements) {
    const slots = queries.row(row), marked = zeros(operation.windows * operation.keys);
    for (let window = 0; window < operation.windows; window++) {
      if (!occupied(slots, window * operation.queries, operation.queries).length) continue;
      marked.fill(1, window * operation.keys, (window + 1) * operation.keys);
    }
    keys.row(marked).forEach((value, token) => { if (value) held[token] = 1; });
  }
  return held;
}

function windowOnto(step, chosen) {
  if (step.placements.every(({ operation }) => operation.windows === 1)) return null;
  const held = new Uint8Array(count(step.after));
  for (const { queries, keys, operation } of step.placements) {
    const slots = keys.column(chosen), marked = zeros(operation.windows * operation.queries);
    for (let window = 0; window < operation.windows; window++) {
      if (!occupied(slots, window * operation.keys, operation.keys).length) continue;
      marked.fill(1, window * operation.queries, (window + 1) * operation.queries);
    }
    queries.column(marked).forEach((value, token) => { if (value) held[token] = 1; });
  }
  return held;
}
