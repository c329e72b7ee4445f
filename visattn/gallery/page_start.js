function head() {
  const count = (key) => unique(maps.map((map) => map[key])).length;
  $("facts").textContent = [
    ...[[false, "photo"], [true, "clip"]].map(([clip, noun]) => {
      const count = data.photos.filter((photo) => photo.clip === clip).length;
      return count || !clip ? plural(count, noun) : null;
    }).filter(known), plural(count("model"), "model"), plural(count("method"), "method"),
    `made ${data.made} with visattn ${data.version}`,
  ].join("  ·  ");
  const words = { ok: "ok", failed: "failed", unsupported: "do not apply" };
  $("counts").append(...Object.entries(words).filter(([status]) => data.counts[status]).map(([status, text]) =>
    el("button", {
      type: "button", class: status, value: status, "aria-pressed": "false",
      on: { click: () => { $("status").value = $("status").value === status ? "" : status; refresh(); } },
    }, `${data.counts[status]} ${text}`)));
}

fillSelects();
head();
showOpacity();
refresh();

$("tools").addEventListener("submit", (event) => event.preventDefault());
$("query").addEventListener("input", refresh);
for (const id of [...Object.keys(CHOICES), "sort"]) $(id).addEventListener("change", refresh);
for (const id of ["opacity", "box-opacity"]) $(id).addEventListener("input", () => showOpacity(Number($(id).value)));
$("reset").addEventListener("click", reset);
$("help-button").addEventListener("click", () => $("help").showModal());
$("box-previous").addEventListener("click", () => movePhoto(-1));
$("box-next").addEventListener("click", () => movePhoto(1));
$("box-close").addEventListener("click", () => $("box").close());
$("box").addEventListener("close", closed);
$("statistics-button").addEventListener("click", openStatistics);
$("statistics-close").addEventListener("click", () => $("statistics").close());
$("table-button").addEventListener("click", saveTable);
$("other").addEventListener("change", () => { compare.other = $("other").value; drawBox(); $("other").focus(); });
$("wipe").addEventListener("input", () => { stopBlinking(); showWipe(Number($("wipe").value)); });
$("exchange").addEventListener("click", exchange);
$("blink").addEventListener("click", toggleBlinking);
for (const kind of ["pointerdown", "pointermove"]) $("stage").addEventListener(kind, dragged);
document.addEventListener("keydown", pressed);
new IntersectionObserver((seen) => {
  if (seen.some((each) => each.isIntersecting)) drawMore();
}, { rootMargin: "1200px" }).observe($("more"));
