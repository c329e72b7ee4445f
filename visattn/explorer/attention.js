/* ---------- attention: softmax(scale q k + bias), row by row ---------- */

const BLOCK = 4; // rows that are multiplied at once, so that each key is read once for all of them

/** One operation of one image: windows * heads matrices (query, key), never stored. */
class Operation {
  constructor(written) {
    Object.assign(this, written);
    this.ready = null;
  }

  load() {
    this.ready ??= this.read();
    return this.ready;
  }

  async read() {
    const { query, key, weights, bias } = this;
    if (weights) {
      this.explicit = await numbers(weights);
      return;
    }
    this.channels = query.shape[3];
    [this.q, this.k] = await Promise.all([numbers(query), numbers(key)]);
    // One number for each row, by which its weights are told from its scores; NaN: not yet known.
    this.logSums = new Float64Array(this.windows * this.heads * this.queries).fill(NaN);
    this.summed = new Uint8Array(this.windows * this.heads); // matrices whose rows are all known so
    this.keyCopy = new Float64Array(this.keys * this.channels);
    this.queryCopy = new Float64Array(BLOCK * this.channels);
    this.blockScores = new Float64Array(BLOCK * this.keys);
    this.copied = -1;
    if (!bias) return;
    this.kindOf = bias.windows ? await numbers(bias.windows) : null;
    this.dense = bias.dense ? await numbers(bias.dense) : null;
    this.values = bias.values ? await numbers(bias.values) : null;
    this.places = bias.places ? await numbers(bias.places) : null;
  }

  addBias(window, head, row, out, at) {
    const [kinds, heads, queries, keys] = this.bias.shape;
    const kind = kinds === 1 ? 0 : this.kindOf[window];
    const own = heads === 1 ? 0 : head, from = queries === 1 ? 0 : row;
    const step = keys === 1 ? 0 : 1;
    if (this.dense) {
      const start = ((kind * heads + own) * queries + from) * keys;
      for (let j = 0; j < this.keys; j++) out[at + j] += this.dense[start + j * step];
      return;
    }
    const column = kind * heads + own, width = kinds * heads, start = from * keys;
    for (let j = 0; j < this.keys; j++) out[at + j] += this.values[this.places[start + j * step] * width + column];
  }

  biasAt(window, head, row, key) {
    const [kinds, heads, queries, keys] = this.bias.shape;
    const kind = kinds === 1 ? 0 : this.kindOf[window], own = heads === 1 ? 0 : head;
    const place = (queries === 1 ? 0 : row) * keys + (keys === 1 ? 0 : key);
    if (this.dense) return this.dense[(kind * heads + own) * queries * keys + place];
    return this.values[this.places[place] * kinds * heads + kind * heads + own];
  }

  /** Return one weight of a row whose sum is known, without the rest of the row. */
  weight(matrix, row, key) {
    const { channels: width } = this;
    const from = (matrix * this.queries + row) * width, to = (matrix * this.keys + key) * width;
    let score = 0;
    for (let c = 0; c < width; c++) score += this.q[from + c] * this.k[to + c];
    score *= this.scale;
    if (this.bias) score += this.biasAt(Math.floor(matrix / this.heads), matrix % this.heads, row, key);
    return Math.exp(score - this.logSums[matrix * this.queries + row]);
  }

  /** Put the scores of up to four rows of a head into `blockScores`, one row behind the other. */
  scores(matrix, rows, count) {
    const { channels: width, keys, keyCopy: k, queryCopy: q, blockScores: out } = this;
    if (this.copied !== matrix) {
      k.set(this.k.subarray(matrix * keys * width, (matrix + 1) * keys * width));
      this.copied = matrix;
    }
    for (let r = 0; r < BLOCK; r++) {
      const start = (matrix * this.queries + rows[Math.min(r, count - 1)]) * width;
      for (let c = 0; c < width; c++) q[r * width + c] = this.q[start + c] * this.scale;
    }
    if (count === 1) dots(q, k, out, width, keys);
    else dots4(q, k, out, width, keys);
    if (!this.bias) return;
    const window = Math.floor(matrix / this.heads), head = matrix % this.heads;
    for (let r = 0; r < count; r++) this.addBias(window, head, rows[r], out, r * keys);
  }

  /** Turn the scores of one row into weights; a row whose keys are all masked has weights 0. */
  soften(matrix, row, at) {
    const out = this.blockScores, end = at + this.keys, place = matrix * this.queries + row;
    let sum = this.logSums[place];
    if (Number.isNaN(sum)) {
      let top = -Infinity, total = 0;
      for (let j = at; j < end; j++) if (out[j] > top) top = out[j];
      if (top > -Infinity) for (let j = at; j < end; j++) total += Math.exp(out[j] - top);
      sum = top > -Infinity ? top + Math.log(total) : Infinity;
      this.logSums[place] = sum;
    }
    for (let j = at; j < end; j++) out[j] = Math.exp(out[j] - sum);
  }

  /** Call `act(row, weights, start)` for rows (indices) of one matrix; weights are valid meanwhile. */
  * rows(matrix, rows, act) {
    if (this.explicit) {
      for (const row of rows) act(row, this.explicit, (matrix * this.queries + row) * this.keys);
      yield;
      return;
    }
    for (let start = 0; start < rows.length; start += BLOCK) {
      const some = rows.slice(start, start + BLOCK);
      this.scores(matrix, some, some.length);
      some.forEach((row, r) => {
        this.soften(matrix, row, r * this.keys);
        act(row, this.blockScores, r * this.keys);
      });
      if (start % 32 === 28) yield;
    }
    yield;
  }
}

function dots(q, k, out, width, keys) {
  for (let j = 0, at = 0; j < keys; j++) {
    let a = 0;
    for (let c = 0; c < width; c++, at++) a += q[c] * k[at];
    out[j] = a;
  }
}

// Four rows by two keys at a time: each number is loaded once for several products.
function dots4(q, k, out, width, keys) {
  const second = width, third = 2 * width, fourth = 3 * width, even = keys - (keys % 2);
  for (let j = 0; j < even; j += 2) {
    const one = j * width, two = one + width;
    let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    for (let i = 0; i < width; i++) {
      const left = k[one + i], right = k[two + i];
      const q1 = q[i], q2 = q[second + i], q3 = q[third + i], q4 = q[fourth + i];
      a += q1 * left;
      b += q2 * left;
      c += q3 * left;
      d += q4 * left;
      e += q1 * right;
      f += q2 * right;
      g += q3 * right;
      h += q4 * right;
    }
    out[j] = a;
    out[j + 1] = e;
    out[keys + j] = b;
    out[keys + j + 1] = f;
    out[2 * keys + j] = c;
    out[2 * keys + j + 1] = g;
    out[3 * keys + j] = d;
    out[3 * keys + j + 1] = h;
  }
  if (even === keys) return;
  for (let row = 0; row < BLOCK; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += q[row * width + i] * k[even * width + i];
    out[row * keys + even] = sum;
  }
}
