const PAGE = 24;
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const state = { shown: [], drawn: 0, photo: 0, map: 0 };

// Text only ever enters the page as text nodes and attributes, never as markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Long names may break after their punctuation, and not in the middle of a word.
function breakable(text) {
  const parts = text.split(/(?<=[_:/.-])/).flatMap((part) => [el("wbr"), part]);
  return el("span", { class: "name" }, ...parts.slice(1));
}

const number = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(digits)));
};
const percent = (share) =>
  share === null || share === undefined ? "–" : `${number(100 * share, share < 0.1 ? 2 : 3)} %`;
const chance = (p) => (p > 0 && p < 0.005 ? "below 0.01" : p.toFixed(2));
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const split = (name) => {
  const cut = name.lastIndexOf("/") + 1;
  return [name.slice(0, cut), name.slice(cut)];
};
const className = (map) =>
  map.index !== undefined ? map.label : map.statistics ? map.statistics.prediction : null;
const likelihood = (map) =>
  map.probability ?? (map.statistics ? map.statistics.prediction_probability : null) ?? null;
const named = (label, p) => (p === null || p === undefined ? label : `${label} ${chance(p)}`);
const known = (value) => value !== null && value !== undefined;
// What drew the map stands behind a name that stands for several methods.
const methodOf = (map) => {
  const drawn = map.statistics?.method;
  return drawn && drawn !== map.method ? `${map.method} (${drawn})` : map.method;
};
