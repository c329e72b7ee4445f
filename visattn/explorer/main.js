/* ---------- start ---------- */

const hidden = (text) => {
  $("empty").hidden = false;
  $("empty").textContent = text;
};

/** Where a reader starts: the patch in the middle, in the last layer. */
const middle = () => ({ kind: "point", y: inputHeight / 2, x: inputWidth / 2 });

async function start() {
  if (typeof DecompressionStream === "undefined") {
    hidden("This browser is too old for this page: use Chrome 80, Firefox 113, Safari 16.4 or newer.");
    return;
  }
  buildFacts();
  buildViews();
  buildTokens();
  buildLayers();
  const ratio = photoWidth / photoHeight;
  document.documentElement.style.setProperty("--ratio", String(ratio));
  await Promise.all([loadRoutes(), photo.decode()]);
  listeners.push(follow);
  listen();
  new ResizeObserver(follow).observe($("stage"));
  await set({ selection: middle(), ...asksFor(location.hash) });
  listenToAddress();
}

/** For tests and for people at the console: the state, and the numbers behind the picture. */
window.visattn = {
  data, state, set, layers,
  started: start(),
  settled: () => settled,
  answer: () => shown(),
  row: () => { const row = shownRow(); return row && [...row]; },
  heads: () => (shown()?.heads ?? []).map((row) => [...row]),
  fragment,
  window: () => (shown()?.window ? [...shown().window] : null),
  seconds: () => sheet.seconds,
};
