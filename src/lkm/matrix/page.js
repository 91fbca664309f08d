"use strict";
// A cell of the map opens its story, which leads back to it; the arrow keys walk over the map.
function show() {
  const there = document.getElementById(location.hash.slice(1));
  if (!there) return;
  if (there instanceof HTMLDetailsElement) there.open = true;
  there.scrollIntoView();
  const focused = there.matches("a") ? there : there.querySelector("summary");
  if (focused) focused.focus({ preventScroll: true });
}
addEventListener("hashchange", show);
show();
document.querySelector(".map").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const at = event.target.closest("td");
  if (!step || !at) return;
  const rows = [...document.querySelectorAll(".map tbody tr")];
  const row = rows[rows.indexOf(at.parentElement) + step[0]];
  const next = row && row.cells[at.cellIndex + step[1]];
  const link = next && next.querySelector("a");
  if (link) { link.focus(); event.preventDefault(); }
});
