/* ---------- input: pointer, touch and keys ---------- */

const DRAG = 6; // pixels that a finger may tremble
let pressedAt = null;

function under(event) {
  const box = photo.getBoundingClientRect();
  return toInput((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
}

const seen = ([y, x]) => y >= 0 && x >= 0 && y < inputHeight && x < inputWidth;

function asked(start, end, moved) {
  const [y, x] = end;
  if (!moved) return seen(end) ? { kind: "point", y, x } : null;
  const box = [Math.min(start[0], y), Math.min(start[1], x), Math.max(start[0], y), Math.max(start[1], x)];
  return box[2] < 0 || box[3] < 0 || box[0] > inputHeight || box[1] > inputWidth ? null : { kind: "area", box };
}

function pressDown(event) {
  if (event.button !== 0) return;
  if (!event.isPrimary) return pressCancel();
  const { selection, view } = state;
  pressedAt = { point: under(event), x: event.clientX, y: event.clientY, moved: false, before: { selection, view } };
  return $("stage").setPointerCapture(event.pointerId);
}

// The browser took the finger for scrolling, or a second one came to zoom: nothing was chosen.
function pressCancel() {
  if (pressedAt?.moved) set(pressedAt.before);
  pressedAt = null;
}

function pressMove(event) {
  if (!pressedAt) return hover(event);
  pressedAt.moved ||= Math.hypot(event.clientX - pressedAt.x, event.clientY - pressedAt.y) > DRAG;
  if (pressedAt.moved) select(asked(pressedAt.point, under(event), true));
  return undefined;
}

function pressUp(event) {
  if (!pressedAt) return;
  select(asked(pressedAt.point, under(event), pressedAt.moved), !pressedAt.moved);
  pressedAt = null;
}

function select(selection, told = false) {
  amiss = [];
  if (selection) set({ selection, view: state.view === "norms" ? "to" : state.view });
  else if (told) $("status").textContent = "The model did not see this part of the photo.";
}

function hover(event) {
  const answer = shown(), row = shownRow(answer);
  const cell = row && answer.layout.grid[0] ? cellAt(answer.layout, ...under(event)) : null;
  if (!cell) return unhover();
  const token = tokenAt(answer.layout, ...cell), outside = answer.window && !answer.window[token];
  $("under").textContent = `Under the pointer: row ${cell[0]}, column ${cell[1]}, ${outside ? "outside the window" : number(row[token])}`;
  return undefined;
}

function unhover() { $("under").textContent = ""; }

/* ---------- keys ---------- */

function move(rows, cols) {
  const layout = shown()?.sourceLayout ?? layers[shownPlace()].after, { selection } = state;
  const own = layout.grid[0] ? layout : layers[0].before;
  let [row, col] = [Math.floor(own.grid[0] / 2), Math.floor(own.grid[1] / 2)];
  if (["point", "area"].includes(selection.kind)) {
    const [y, x] = selection.kind === "point" ? [selection.y, selection.x] : [(selection.box[0] + selection.box[2]) / 2, (selection.box[1] + selection.box[3]) / 2];
    [row, col] = cellOf(own, covering(own, y, x));
    row = Math.min(own.grid[0] - 1, Math.max(0, row + rows));
    col = Math.min(own.grid[1] - 1, Math.max(0, col + cols));
  }
  const [y, x] = centre(own, row, col);
  select({ kind: "point", y, x });
}

const clamped = (value, top) => Math.min(top, Math.max(0, value));
const moveLayer = (by) => choose(clamped(shownPlace() + by, layers.length - 1));

function moveHead(by) {
  if (!hasHeads()) return;
  const now = state.head === null || state.head >= headCount() ? -1 : state.head, next = now + by;
  set({ head: next < 0 ? null : Math.min(next, headCount() - 1) });
}

function nextPrefix() {
  const names = prefixNames();
  if (!names.length) return;
  const now = state.selection.kind === "prefix" ? names.indexOf(state.selection.name) : -1;
  set({ selection: { kind: "prefix", name: names[(now + 1) % names.length] } });
}

const KEYS = {
  ArrowUp: () => move(-1, 0), ArrowDown: () => move(1, 0), ArrowLeft: () => move(0, -1), ArrowRight: () => move(0, 1),
  "[": () => moveLayer(-1), "]": () => moveLayer(1), ",": () => moveHead(-1), ".": () => moveHead(1),
  m: () => set({ head: null }), r: () => data.readout && set({ selection: { kind: "read" } }), c: nextPrefix,
  h: () => set({ heat: !state.heat }), o: () => set({ marks: !state.marks }), s: savePicture, "?": () => $("help").showModal(),
};
Object.keys(VIEWS).forEach((view, i) => { KEYS[String(i + 1)] = () => $("views").children[i].click(); });

function keyed(event) {
  // Where brackets need AltGr, it reports itself as Ctrl and Alt.
  const modified = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  if (modified || event.defaultPrevented || $("help").open) return;
  const field = event.target.closest && event.target.closest("input, select");
  if (field && (field.tagName === "SELECT" || event.key.startsWith("Arrow"))) return;
  const act = KEYS[event.key];
  if (!act) return;
  act();
  event.preventDefault();
}

function listen() {
  const stage = $("stage");
  stage.addEventListener("pointerdown", pressDown);
  stage.addEventListener("pointermove", pressMove);
  stage.addEventListener("pointerup", pressUp);
  stage.addEventListener("pointercancel", pressCancel);
  stage.addEventListener("pointerleave", unhover);
  document.addEventListener("keydown", keyed);
  $("layer").addEventListener("input", () => choose(Number($("layer").value)));
  $("opacity").addEventListener("input", () => set({ opacity: Number($("opacity").value) / 100 }));
  $("scale").addEventListener("change", () => set({ scale: $("scale").value }));
  $("colormap").addEventListener("change", () => set({ colormap: $("colormap").value }));
  $("smooth").addEventListener("change", () => set({ smooth: $("smooth").checked }));
  $("marks").addEventListener("change", () => set({ marks: $("marks").checked }));
  $("save").addEventListener("click", savePicture);
  $("help-button").addEventListener("click", () => $("help").showModal());
}
