/* ---------- arrays: numbers out of the page's text ---------- */

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

const KINDS = {
  float16: [2, Uint16Array], float32: [4, Float32Array], uint8: [1, Uint8Array],
  uint16: [2, Uint16Array], int32: [4, Int32Array],
};

let halves = null;

// Every float16 there is, by its bits.
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) halves[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) halves[bits] = fraction ? NaN : sign * Infinity;
    else halves[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halves;
}

async function inflated(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The stream holds all first bytes, then all second bytes, ...
function joined(planes, width, Kind) {
  const count = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    const from = plane * count;
    for (let i = 0; i < count; i++) bytes[i * width + plane] = planes[from + i];
  }
  return new Kind(bytes.buffer);
}

const loaded = new Map();

/** Return the numbers of an array of the page; float16 becomes float32. */
function numbers(reference) {
  if (!loaded.has(reference.array)) loaded.set(reference.array, unpacked(reference));
  return loaded.get(reference.array);
}

async function unpacked({ array, type }) {
  const [width, Kind] = KINDS[type];
  const found = joined(await inflated($(`array-${array}`).textContent.trim()), width, Kind);
  if (type !== "float16") return found;
  const table = halfTable();
  return Float32Array.from(found, (bits) => table[bits]);
}
