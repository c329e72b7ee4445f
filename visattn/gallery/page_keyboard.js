function focusTile(photo, map) {
  const tiles = [...document.querySelectorAll(`.card[data-photo="${photo}"] .tile`)];
  if (!tiles.length) return;
  const target = tiles[Math.min(map, tiles.length - 1)];
  target.focus({ preventScroll: true });
  target.closest(".card").scrollIntoView({ block: "nearest" });
  target.scrollIntoView({ block: "nearest" });
}

function cursor() {
  const focused = document.activeElement.closest ? document.activeElement.closest(".tile") : null;
  if (!focused) return null;
  return { photo: Number(focused.closest(".card").dataset.photo), map: Number(focused.dataset.map) };
}

function walk(steps, sideways) {
  const at = cursor();
  if (!at) return focusTile(0, 0);
  if (sideways) return focusTile(at.photo, Math.max(0, at.map + sideways));
  const photo = Math.min(Math.max(0, at.photo + steps), state.shown.length - 1);
  while (state.drawn <= photo) drawMore();
  return focusTile(photo, at.map);
}

function inGrid(key) {
  if (key === "j" || key === "ArrowDown") walk(1, 0);
  else if (key === "k" || key === "ArrowUp") walk(-1, 0);
  else if (key === "ArrowRight") walk(0, 1);
  else if (key === "ArrowLeft") walk(0, -1);
  else if (/^[1-9]$/.test(key)) focusTile((cursor() ?? { photo: 0 }).photo, Number(key) - 1);
  else if (key === "/") $("query").focus();
  else if (key === "s") openStatistics();
  else return false;
  return true;
}

function inBox(key) {
  if (key === "j" || key === "ArrowDown") movePhoto(1);
  else if (key === "k" || key === "ArrowUp") movePhoto(-1);
  else if (key === "ArrowRight") moveMap(1);
  else if (key === "ArrowLeft") moveMap(-1);
  else if (key === "c" && !$("compare").hidden) $("other").focus();
  else if (key === "b" && !$("compare-tools").hidden) exchange();
  else if (/^[1-9]$/.test(key) && Number(key) <= here().maps.length) {
    state.map = Number(key) - 1;
    drawBox();
  } else return false;
  return true;
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target.closest && event.target.closest("input, select, textarea");
  if (typing) {
    if (event.key === "Escape" && !$("box").open) typing.blur();
    return;
  }
  if ($("help").open || $("statistics").open) return;
  if (event.key === "?") $("help").showModal();
  else if (event.key === "h") document.documentElement.classList.toggle("bare");
  else if (!($("box").open ? inBox(event.key) : inGrid(event.key))) return;
  event.preventDefault();
}
