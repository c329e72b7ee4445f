/* ---------- link: the view in the address, to come back to or to send with the file ---------- */

const PAUSE = 250; // milliseconds of rest before the address is rewritten: browsers limit how often
const SCALES = ["largest", "percentile", "logarithm"];
let resting = null, amiss = [];

const placeName = (place) => (layers[place] === pool ? "pool" : String(layers[place].layer));
const short = (value) => String(Number(value.toFixed(2)));

/** Return the view as a fragment; places on the photo are pixels of the model's input. */
function fragment() {
  const { selection } = state, words = new URLSearchParams({ view: state.view });
  if (state.view === "rollout") words.set("down-to", placeName(state.until));
  else words.set("layer", placeName(state.layer));
  if (hasHeads() && state.head !== null) words.set("head", String(state.head));
  if (selection.kind === "point") words.set("patch", [selection.y, selection.x].map(short).join(","));
  if (selection.kind === "area") words.set("region", selection.box.map(short).join(","));
  if (selection.kind === "prefix") words.set("token", selection.name);
  if (selection.kind === "read") words.set("token-read", "head");
  if (state.scale !== SCALES[0]) words.set("scale", state.scale);
  if (state.colormap !== Object.keys(data.colormaps)[0]) words.set("colours", state.colormap);
  return `#${words}`;
}

function numbersOf(text, count) {
  const found = text.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  return found.length === count && found.every(Number.isFinite) ? found : null;
}

const pointOf = (text) => {
  const at = numbersOf(text, 2);
  return at && seen(at) ? { kind: "point", y: at[0], x: at[1] } : null;
};

const regionOf = (text) => {
  const box = numbersOf(text, 4);
  return box && box[0] <= box[2] && box[1] <= box[3] ? asked([box[0], box[1]], [box[2], box[3]], true) : null;
};

// What a word of the fragment changes in the state, or null where that is not in this file.
const READERS = {
  view: (text) => (Object.hasOwn(VIEWS, text) ? { view: text } : null),
  layer: (text) => atPlace("layer", text),
  "down-to": (text) => atPlace("until", text),
  head: (text) => (/^\d{1,4}$/.test(text) ? { head: Number(text) } : null),
  patch: (text) => chosenBy(pointOf(text)),
  region: (text) => chosenBy(regionOf(text)),
  token: (text) => (prefixNames().includes(text) ? { selection: { kind: "prefix", name: text } } : null),
  "token-read": (text) => (text === "head" && data.readout ? { selection: { kind: "read" } } : null),
  scale: (text) => (SCALES.includes(text) ? { scale: text } : null),
  colours: (text) => (Object.hasOwn(data.colormaps, text) ? { colormap: text } : null),
};

const chosenBy = (selection) => (selection ? { selection } : null);

function atPlace(name, text) {
  const place = layers.findIndex((_, each) => placeName(each) === text);
  return place < 0 ? null : { [name]: place };
}

/** Return what the address asks for; what this file cannot show is left out, and said. */
function asksFor(address) {
  const changes = {};
  amiss = [];
  for (const [name, text] of new URLSearchParams(address.replace(/^#/, ""))) {
    const found = Object.hasOwn(READERS, name) ? READERS[name](text) : null;
    if (found) Object.assign(changes, found);
    else amiss.push(`${name}=${text}`.slice(0, 60));
  }
  const place = changes.layer ?? state.layer;
  if (changes.head !== undefined && changes.head >= headCount(place)) {
    amiss.push(`head=${changes.head}`);
    delete changes.head;
  }
  return changes;
}

const amissWords = () => (amiss.length ? `The link asks for what is not in this file: ${amiss.join(", ")}. ` : "");

function rewrite() {
  clearTimeout(resting);
  resting = setTimeout(() => {
    const now = fragment();
    // The address alone changes: nothing is loaded and the way back stays as it was.
    if (now !== location.hash) history.replaceState(null, "", now);
  }, PAUSE);
}

/** Say the address of this view, and copy it where the browser lets a page do so. */
async function copyLink() {
  const address = location.href.replace(/#.*$/, "") + fragment();
  history.replaceState(null, "", fragment());
  try {
    await navigator.clipboard.writeText(address);
    $("link").textContent = "Link copied";
  } catch {
    $("link").textContent = "The address above is the link";
  }
  setTimeout(() => { $("link").textContent = "Copy link to this view"; }, 2500);
}

function listenToAddress() {
  addEventListener("hashchange", () => set({ head: null, ...asksFor(location.hash) }));
  listeners.push((what) => { if (what === "state") rewrite(); });
  $("link").addEventListener("click", copyLink);
}
