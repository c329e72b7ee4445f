// The selection as a table, one line per map, with the names of the manifest.
const COLUMNS = [
  ["image", (photo) => photo.name],
  ["model", (photo, map) => map.model],
  ["method", (photo, map) => map.method],
  ["drawn_by", (photo, map) => map.statistics?.method],
  ["status", (photo, map) => map.status],
  ["error", (photo, map) => map.error],
  ["target_index", (photo, map) => map.index],
  ["target_label", (photo, map) => map.label],
  ["probability", (photo, map) => map.probability],
  ["prediction", (photo, map) => map.statistics?.prediction],
  ["prediction_probability", (photo, map) => map.statistics?.prediction_probability],
  ["height", (photo) => photo.height],
  ["width", (photo) => photo.width],
  ["grid_rows", (photo, map) => map.grid?.[0]],
  ["grid_columns", (photo, map) => map.grid?.[1]],
  ...["entropy", "gini", "top5_mass", "prefix_mass", "outlier_tokens", "attention_distance", "head_redundancy", "minimum", "maximum", "no_signal"].map(
    (name) => [name, (photo, map) => map.statistics?.[name]]),
  ["warnings", (photo, map) => map.warnings?.join("; ")],
  ["map", (photo, map) => map.map && path(map.map)],
];

// A name that is no UTF-8 stays as the page's address writes it.
function path(address) {
  try {
    return decodeURIComponent(address);
  } catch {
    return address;
  }
}

function field(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function table() {
  const lines = state.shown.flatMap(({ photo, maps: visible }) =>
    visible.map((map) => COLUMNS.map(([, value]) => field(value(photo, map))).join(",")));
  return `${[COLUMNS.map(([name]) => name).join(","), ...lines].join("\r\n")}\r\n`;
}

function saveTable() {
  const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  const link = el("a", { href: address, download: "selection.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
