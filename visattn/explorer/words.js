/* ---------- words: elements, numbers and sentences ---------- */

// Text only ever enters the page as text nodes and attributes, never as markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (value, digits = 3) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(digits - 1).replace("e-", " · 10⁻").replace(/⁻(\d+)$/, (_, power) => `⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`);
  return String(Number(value.toPrecision(digits)));
};
const percent = (share) => (share > 0 && share < 0.0005 ? "below 0.1 %" : `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))} %`);
const plural = (many, noun) => `${many} ${noun}${many === 1 ? "" : "s"}`;

const layerName = (step) => (step === pool ? "head pooling" : `layer ${step.layer}`);
const operations = (step) => step.placements.map((placed) => placed.name).join(", ");
const headCount = (place = state.layer) => headsOf(layers[place]).length;
const hasHeads = () => state.view === "to" || state.view === "from";

function describeSelection() {
  const { selection } = state, layout = shown()?.sourceLayout ?? layers[shownPlace()].after;
  if (selection.kind === "read") return `What the head reads (${data.reads})`;
  if (selection.kind === "prefix") return `Token “${selection.name}”`;
  if (!layout.grid[0]) return "Patch";
  const found = chosenTokens(layout, selection);
  if (found.length > 1) return `Region of ${found.length} patches`;
  const [row, col] = cellOf(layout, found[0]);
  return `Patch in row ${row}, column ${col}`;
}

function headWords() {
  if (!hasHeads()) return "";
  return state.head === null || state.head >= headCount() ? `, mean of ${plural(headCount(), "head")}` : `, head ${state.head}`;
}

function describe() {
  const who = describeSelection(), layer = layerName(layers[shownPlace()]), answer = shown();
  const where = state.view === "norms" ? `Norms of the tokens behind ${layer}`
    : state.view === "rollout" ? `Rollout from ${who[0].toLowerCase()}${who.slice(1)}, down to ${layer}`
      : `${layer[0].toUpperCase()}${layer.slice(1)}${headWords()}`;
  if (!answer) return `${where} …`;
  if (answer.reason) return `${where}.`;
  const values = cells(answer), high = largest(values);
  if (high === null) return `${where}.`;
  const [row, col] = cellOf(answer.layout, high + answer.layout.prefix.length);
  const place = `row ${row}, column ${col} (${number(values[high])})`, note = answer.note ? ` ${answer.note}` : "";
  if (!hasHeads()) return `${where}: largest in ${place}.${note}`;
  return `${who} ${state.view === "to" ? "looks most at" : "is looked at most from"} ${place}. ${where}.${note}`;
}

function largest(values) {
  let high = null;
  values.forEach((value, i) => { if (value !== null && (high === null || value > values[high])) high = i; });
  return high;
}
