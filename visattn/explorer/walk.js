/* ---------- walk: rows of relevance through the steps of the model ---------- */

const RESIDUAL = 0.5; // Abnar & Zuidema, ACL 2020

/** Non-negative shares (from, to), applied to a row from the left, or backwards to a column. */
class Reindex {
  constructor(written) {
    this.written = written;
    [this.before, this.behind] = written.size;
  }

  async load() {
    const { same, from, to, share } = this.written;
    if (same) return;
    [this.from, this.to] = await Promise.all([numbers(from), numbers(to)]);
    this.share = share ? await numbers(share) : null;
  }

  moved(row, from, to, size) {
    if (this.written.same) return row;
    const out = new Float64Array(size);
    if (this.share) for (let e = 0; e < from.length; e++) out[to[e]] += row[from[e]] * this.share[e];
    else for (let e = 0; e < from.length; e++) out[to[e]] += row[from[e]];
    return out;
  }

  row(row) { return this.moved(row, this.from, this.to, this.behind); }

  column(column) { return this.moved(column, this.to, this.from, this.before); }

  get sums() {
    this.kept ??= this.column(new Float64Array(this.behind).fill(1));
    return this.kept;
  }
}

const steps = data.steps.map((written) => ({
  ...written,
  skip: written.skip && new Reindex(written.skip),
  residual: written.residual && new Reindex(written.residual),
  placements: written.placements.map((placed) => ({
    name: placed.name,
    queries: new Reindex(placed.queries),
    keys: new Reindex(placed.keys),
    operation: placed.operation && new Operation(placed.operation),
  })),
}));
const pool = data.pool ? steps.pop() : null;
const layers = [...data.embedded.map((layer) => steps.find((step) => step.layer === layer)), ...(pool ? [pool] : [])];
const count = (layout) => layout.prefix.length + layout.grid[0] * layout.grid[1] + layout.suffix;
const zeros = (size) => new Float64Array(size);
const total = (row) => row.reduce((sum, value) => sum + value, 0);

async function loadRoutes() {
  const parts = [...steps, ...(pool ? [pool] : [])].flatMap((step) => [
    step.skip, step.residual, ...step.placements.flatMap((placed) => [placed.queries, placed.keys]),
  ]);
  await Promise.all(parts.filter(Boolean).map((part) => part.load()));
}

const loadLayer = (step) => Promise.all(step.placements.map((placed) => placed.operation.load()));

/** The heads of a layer, those of parallel operations one after the other, with their part of the mean. */
function headsOf(step) {
  return step.placements.flatMap(({ operation }) =>
    Array.from({ length: operation.heads }, () => 1 / (operation.heads * step.placements.length)));
}

const occupied = (slots, start, size) => {
  const found = [];
  for (let i = 0; i < size; i++) if (slots[start + i] !== 0) found.push(i);
  return found;
};

/** Return, for each head, the row (token before) that a row (token after) attends to. */
function* lookedAt(step, row) {
  const heads = [];
  for (const { queries, keys, operation } of step.placements) {
    const slots = queries.row(row);
    for (let head = 0; head < operation.heads; head++) {
      const out = zeros(operation.windows * operation.keys);
      for (let window = 0; window < operation.windows; window++) {
        yield* multiplied(operation, window, head, slots, out, 1);
      }
      heads.push(keys.row(out));
    }
  }
  return heads;
}

function* multiplied(operation, window, head, slots, out, factor) {
  const from = window * operation.queries, to = window * operation.keys, width = operation.keys;
  const rows = occupied(slots, from, operation.queries);
  if (!rows.length) return;
  yield* operation.rows(window * operation.heads + head, rows, (row, weights, at) => {
    const share = slots[from + row] * factor;
    for (let j = 0; j < width; j++) out[to + j] += share * weights[at + j];
  });
}

/** Return, for each head, the column (token after) of attention on chosen tokens (token before). */
function* lookedAtFrom(step, chosen) {
  const heads = [];
  for (const { queries, keys, operation } of step.placements) {
    const slots = keys.column(chosen);
    for (let head = 0; head < operation.heads; head++) {
      const out = zeros(operation.windows * operation.queries);
      for (let window = 0; window < operation.windows; window++) {
        yield* gathered(operation, window, head, slots, out);
      }
      heads.push(queries.column(out));
    }
  }
  return heads;
}

// The first time every row is summed up; from then on a few columns need no whole rows.
function* gathered(operation, window, head, slots, out) {
  const from = window * operation.keys, into = window * operation.queries;
  const wanted = occupied(slots, from, operation.keys), matrix = window * operation.heads + head;
  if (!wanted.length) return;
  if (operation.summed?.[matrix] && 4 * wanted.length < operation.keys) {
    for (let row = 0; row < operation.queries; row++) {
      for (const key of wanted) out[into + row] += operation.weight(matrix, row, key) * slots[from + key];
    }
    yield;
    return;
  }
  const every = Array.from({ length: operation.queries }, (_, i) => i);
  yield* operation.rows(matrix, every, (row, weights, at) => {
    for (const key of wanted) out[into + row] += weights[at + key] * slots[from + key];
  });
  if (operation.summed) operation.summed[matrix] = 1;
}

function mean(step, heads) {
  const parts = headsOf(step), out = zeros(heads[0].length);
  heads.forEach((row, head) => { for (let i = 0; i < out.length; i++) out[i] += parts[head] * row[i]; });
  return out;
}

/** Return a row before a step and its layout; of two branches, both on the finest grid.

 * Tokens of a second branch lie on another grid: as in `explain`, the row is taken down the residual
 * paths to where the branches part. */
function onGrid(step, row) {
  if (!step.before.suffix) return [row, step.before];
  const top = step === pool ? steps.length : steps.indexOf(step);
  for (let place = top - 1; place >= 0; place--) {
    if (!steps[place].residual) throw new RangeError("The tokens of the other branch cannot be followed to the photo.");
    row = steps[place].residual.row(row);
  }
  return [row, steps[0].before];
}

/* ---------- rollout ---------- */

// r (rho S + (1 - rho) Q A K) of one layer; where rows of A do not sum to 1 they are made to.
function* transition(step, row) {
  const out = zeros(count(step.before)), rho = step.skip ? RESIDUAL : 0;
  for (const { queries, keys, operation } of step.placements) {
    const slots = queries.row(row);
    const scales = operation.softmax ? null : yield* scalesOf(operation, slots, rho);
    const scaled = scales ? slots.map((value, i) => value * scales[i]) : slots;
    const mixed = zeros(operation.windows * operation.keys);
    for (let window = 0; window < operation.windows; window++) {
      for (let head = 0; head < operation.heads; head++) {
        yield* multiplied(operation, window, head, scaled, mixed, (1 - rho) / operation.heads);
      }
    }
    const moved = keys.row(mixed), attending = queries.sums;
    const scale = scales ? queries.column(scales) : attending;
    const stays = step.skip ? step.skip.row(row.map((value, i) => value * (1 - attending[i] + rho * scale[i]))) : null;
    for (let i = 0; i < out.length; i++) out[i] += (moved[i] + (stays ? stays[i] : 0)) / step.placements.length;
  }
  return out;
}

function* scalesOf(operation, slots, rho) {
  const sums = zeros(slots.length), scales = zeros(slots.length).fill(1);
  for (let window = 0; window < operation.windows; window++) {
    const from = window * operation.queries, rows = occupied(slots, from, operation.queries);
    for (let head = 0; head < operation.heads; head++) {
      yield* operation.rows(window * operation.heads + head, rows, (row, weights, at) => {
        for (let j = 0; j < operation.keys; j++) sums[from + row] += weights[at + j] / operation.heads;
      });
    }
    for (const row of rows) {
      const sum = rho + (1 - rho) * sums[from + row];
      scales[from + row] = sum === 0 ? 0 : 1 / sum;
    }
  }
  return scales;
}

/** Why relevance cannot be walked through all layers, or null. */
function rolloutRefusal() {
  if (data.rolloutRefusal) return data.rolloutRefusal;
  const gap = steps.find((step) => step.layer !== null && !step.skip && !step.placements[0].operation);
  return gap ? `Layer ${gap.layer} has no residual path and is not embedded in this file.` : null;
}

/** Walk a row from the last layer to the first; `reached(step, row)` is told the row before each. */
async function rolled(row, run, reached) {
  for (let place = steps.length - 1; place >= 0; place--) {
    const step = steps[place];
    if (step.placements.length && step.placements[0].operation) {
      await loadLayer(step);
      row = await run(transition(step, row));
      reached(step, row);
    } else if (step.skip) row = step.skip.row(row);
  }
  return row;
}
