"""Frame, style and script of the page that browses a map of images; `browser` fills it in."""

PAGE = r"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
{{scheme}}* { box-sizing: border-box; }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--page);
  color: var(--ink); font: 15px/1.45 var(--font); font-variant-numeric: tabular-nums; }
header { padding: 16px 20px 12px; display: flex; flex-wrap: wrap; gap: 6px 24px;
  align-items: flex-end; }
header div { flex: 1 1 420px; min-width: 0; }
h1 { font-size: 20px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
.note { margin: 3px 0 0; color: var(--muted); font-size: 13px; overflow-wrap: anywhere; }
form { display: flex; align-items: center; gap: 12px; margin: 0; }
input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 7px 12px; width: 260px; max-width: 60vw; }
output { color: var(--muted); font-size: 13px; min-width: 110px; white-space: nowrap; }
button { font: inherit; color: inherit; background: none; border: 1px solid transparent;
  border-radius: 8px; cursor: pointer; }
:focus-visible { outline: 2px solid var(--s0); outline-offset: 1px; }
main { flex: 1; min-height: 0; display: flex; gap: 14px; padding: 0 20px 20px; }
.plane { position: relative; flex: 1; min-width: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block;
  cursor: grab; touch-action: none; outline-offset: -3px; border-radius: 10px; }
.moving { cursor: grabbing; }
.zoom { position: absolute; right: 10px; bottom: 10px; display: flex; gap: 4px; }
.zoom button { min-width: 34px; height: 34px; background: var(--card);
  border-color: var(--line); }
#tip { position: absolute; pointer-events: none; max-width: 220px; padding: 8px; font-size: 12px;
  line-height: 1.35; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  box-shadow: 0 4px 16px #0003; overflow-wrap: anywhere; }
#tip img { width: 96px; height: 96px; margin-bottom: 4px; }
[hidden] { display: none !important; }
img { display: block; object-fit: contain; border-radius: 6px; }
.pixel img { image-rendering: pixelated; }
aside { width: 332px; flex: none; overflow-y: auto; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
h2 { font-size: 15px; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 13px; font-weight: 600; margin: 16px 0 6px; }
.chosen { display: flex; gap: 12px; align-items: flex-start; }
.chosen img { width: 96px; height: 96px; flex: none; background: var(--page); }
.muted { color: var(--muted); font-size: 13px; margin: 2px 0 0; overflow-wrap: anywhere; }
ol { list-style: none; margin: 0 -4px; padding: 0; display: grid;
  grid-template-columns: repeat(4, 1fr); gap: 2px; }
li button { width: 100%; padding: 4px; font-size: 12px; color: var(--muted); text-align: center; }
li button:hover, #legend button:hover, .zoom button:hover { border-color: var(--muted); }
li img { width: 64px; height: 64px; margin: 0 auto 2px; }
li i { width: 8px; height: 8px; }
i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 5px; }
#legend { display: flex; flex-wrap: wrap; gap: 2px; margin: 0 -6px; }
#legend button { padding: 1px 7px; font-size: 13px; max-width: 100%; overflow-wrap: anywhere;
  text-align: left; }
#legend button[aria-pressed=true] { border-color: var(--ink); }
kbd { font: inherit; border: 1px solid var(--line); border-radius: 4px; padding: 0 5px; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
@media (max-width: 760px) { body { height: auto; } main { flex-direction: column; }
  .plane { flex: none; height: 62vh; } aside { width: auto; overflow: visible; } }
</style></head><body>
<header>
<div><h1>{{title}}</h1><p class="note">{{note}}</p></div>
<form role="search"><input id="filter" type="search" aria-label="Filter by file name or class"
 placeholder="Filter by file name or class" autocomplete="off" spellcheck="false">
<output id="count" for="filter"></output></form>
</header>
<main>
<div class="plane"><canvas id="map" tabindex="0" role="application" aria-describedby="keys"
 aria-label="Map of the images. Arrow keys walk from image to image."></canvas>
<div id="tip" hidden></div>
<div class="zoom"><button type="button" id="in" aria-label="Zoom in">+</button>
<button type="button" id="out" aria-label="Zoom out">&minus;</button>
<button type="button" id="all" aria-label="Show the whole map">All</button></div></div>
<aside aria-label="The chosen image, and classes">
<noscript><p>This page needs JavaScript, which is in the page itself.</p></noscript>
<div id="panel"></div>
<div id="keys" class="muted"></div>
<div id="classes" hidden><h3>Classes</h3><div id="legend"></div></div>
<p id="said" class="spoken" aria-live="polite"></p>
</aside>
</main>
<script type="application/json" id="data">{{data}}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = name => document.getElementById(name);
const canvas = byId("map"), pen = canvas.getContext("2d"), tip = byId("tip");
const total = data.x.length, reach = [Math.max(...data.x), Math.max(...data.y)];
const spacing = Math.sqrt(Math.max(reach[0], 1) * Math.max(reach[1], 1) / total);
const words = data.name.map((name, i) => (name + "\n" + classOf(i)).toLowerCase());
const shown = new Uint8Array(total).fill(1);
const loaded = [];
let width = 0, height = 0, scale = 1, originX = 0, originY = 0, fitted = 1, atRest = true;
let chosen = -1, pointed = -1, onlyClass = -1, found = total, waiting = false;

function classOf(i) { return data.classes.length ? data.classes[data.label[i]] : ""; }
function colourOf(i) {
  return data.classes.length ? data.colours[data.label[i] % data.colours.length] : "var(--s0)";
}
function source(i) { return "data:image/" + data.picture[i]; }
function element(tag, text, settings) {
  const made = Object.assign(document.createElement(tag), settings);
  if (text) made.textContent = text;
  return made;
}
function key(colour) {
  const made = element("i");
  made.style.background = colour;
  return made;
}
function xOf(i) { return originX + data.x[i] * scale; }
function yOf(i) { return originY + data.y[i] * scale; }

// The map: places of the data, times `scale`, moved to the origin.

function fit() {
  const margin = 34;
  scale = Math.min((width - 2 * margin) / Math.max(reach[0], 1),
    (height - 2 * margin) / Math.max(reach[1], 1));
  scale = fitted = Math.max(scale, 1e-6);
  originX = (width - reach[0] * scale) / 2;
  originY = (height - reach[1] * scale) / 2;
  atRest = true;
  draw();
}
function zoom(factor, x, y) {
  const wanted = Math.min(Math.max(scale * factor, fitted / 2), fitted * 80);
  originX = x - (x - originX) * wanted / scale;
  originY = y - (y - originY) * wanted / scale;
  scale = wanted;
  atRest = false;
  draw();
}
function side() {  // of pictures on the map, as large as they can stand beside one another
  const room = 0.8 * spacing * scale;
  return room < 20 ? 0 : Math.min(room, 64);
}
function picture(i) {
  if (!loaded[i]) {
    loaded[i] = new Image();
    loaded[i].onload = draw;
    loaded[i].src = source(i);
  }
  return loaded[i].complete && loaded[i].naturalWidth ? loaded[i] : null;
}
function draw() {
  if (!waiting) requestAnimationFrame(paint);
  waiting = true;
}
function paint() {
  waiting = false;
  const ratio = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const resolve = text => text.startsWith("var(") ? colour(text.slice(4, -1)) : text;
  const size = side(), radius = Math.min(6, 3.2 * Math.sqrt(Math.sqrt(scale / fitted)));
  const seen = i => xOf(i) > -40 && xOf(i) < width + 40 && yOf(i) > -40 && yOf(i) < height + 40;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.imageSmoothingEnabled = !data.pixel;
  const groups = new Map();
  for (let i = 0; i < total; i++) {
    if (!seen(i)) continue;
    const name = shown[i] ? resolve(colourOf(i)) : colour("--line");
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(i);
  }
  const faint = groups.get(colour("--line")) || [];
  groups.delete(colour("--line"));
  for (const [name, points] of [[colour("--line"), faint], ...groups]) {
    pen.fillStyle = name;
    pen.globalAlpha = 0.85;
    pen.beginPath();
    for (const i of points) {
      if (size && shown[i] && picture(i)) continue;
      pen.moveTo(xOf(i) + radius, yOf(i));
      pen.arc(xOf(i), yOf(i), radius, 0, 7);
    }
    pen.fill();
    pen.globalAlpha = 1;
    if (size) for (const i of points) if (shown[i]) stamp(i, size, name);
  }
  if (chosen >= 0) {
    if (found === total) {  // a veil over all but the chosen image and its neighbours
      pen.fillStyle = colour("--card");
      pen.globalAlpha = 0.6;
      pen.fillRect(0, 0, width, height);
    }
    pen.strokeStyle = colour("--ink");
    pen.globalAlpha = 0.35;
    pen.lineWidth = 1;
    pen.beginPath();
    for (const j of data.near[chosen]) {
      pen.moveTo(xOf(chosen), yOf(chosen));
      pen.lineTo(xOf(j), yOf(j));
    }
    pen.stroke();
    pen.globalAlpha = 1;
    for (const j of [...data.near[chosen], chosen]) {
      if (size) stamp(j, size, resolve(colourOf(j)));
      else dot(j, radius + 1, resolve(colourOf(j)));
      ring(j, size ? size / 2 + 3 : radius + 3, colour("--ink"), j === chosen ? 3 : 1);
    }
  }
  if (pointed >= 0) ring(pointed, size ? size / 2 + 3 : radius + 3, colour("--s0"), 3);
}
function stamp(i, size, colour) {
  const drawn = picture(i);
  if (!drawn) return;
  const part = size / Math.max(drawn.naturalWidth, drawn.naturalHeight);
  const w = drawn.naturalWidth * part, h = drawn.naturalHeight * part;
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.strokeRect(xOf(i) - w / 2 - 1, yOf(i) - h / 2 - 1, w + 2, h + 2);
  pen.drawImage(drawn, xOf(i) - w / 2, yOf(i) - h / 2, w, h);
}
function dot(i, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(xOf(i), yOf(i), radius, 0, 7);
  pen.fill();
}
function ring(i, radius, colour, thickness) {
  pen.strokeStyle = colour;
  pen.lineWidth = thickness;
  pen.beginPath();
  if (side()) pen.rect(xOf(i) - radius, yOf(i) - radius, 2 * radius, 2 * radius);
  else pen.arc(xOf(i), yOf(i), radius, 0, 7);
  pen.stroke();
}

// Choosing an image, and what the panel says of it.

function find(x, y) {
  let best = -1, least = Math.max(14, side() / 2) ** 2;
  for (let i = 0; i < total; i++) {
    const distance = (xOf(i) - x) ** 2 + (yOf(i) - y) ** 2;
    if (shown[i] && distance < least) [best, least] = [i, distance];
  }
  return best;
}
function choose(i) {
  chosen = i;
  try { history.replaceState(null, "", i < 0 ? "#" : "#" + i); } catch (error) { /* a preview */ }
  if (i >= 0 && (xOf(i) < 20 || xOf(i) > width - 20 || yOf(i) < 20 || yOf(i) > height - 20)) {
    originX += width / 2 - xOf(i);
    originY += height / 2 - yOf(i);
    atRest = false;
  }
  describe();
  draw();
}
function describe() {
  const panel = byId("panel");
  panel.replaceChildren();
  pointed = -1;
  byId("keys").hidden = chosen >= 0;
  if (chosen < 0) return;
  const title = element("div");
  title.append(element("h2", data.name[chosen]));
  if (classOf(chosen)) title.append(element("p", classOf(chosen), {className: "muted"}));
  if (data.files) {
    title.append(element("p", "image " + data.index[chosen], {className: "muted"}));
  }
  const head = element("div", "", {className: "chosen"});
  head.append(element("img", "", {src: source(chosen), alt: ""}), title);
  const list = element("ol");
  data.near[chosen].forEach((j, place) => {
    const near = data.cosine[chosen][place].toFixed(2);
    const button = element("button", "", {type: "button", title: label(j)});
    button.dataset.point = j;
    button.setAttribute("aria-label", `${label(j)}, cosine ${near}`);
    button.append(element("img", "", {src: source(j), alt: ""}));
    if (data.classes.length) button.append(key(colourOf(j)));
    button.append(near);
    button.onclick = event => { choose(j); if (!event.detail) focusNear(0); };  // by a key
    button.onmouseenter = button.onfocus = () => { pointed = j; draw(); };
    button.onmouseleave = button.onblur = () => { pointed = -1; draw(); };
    const item = element("li");
    item.append(button);
    list.append(item);
  });
  panel.append(head);
  if (data.near[chosen].length) {
    panel.append(element("h3", "Nearest images, by cosine of their features"), list);
  }
  panel.dataset.chosen = chosen;
  byId("said").textContent = `${label(chosen)}. ${data.near[chosen].length} nearest images.`;
}
function label(i) { return classOf(i) ? `${data.name[i]}, ${classOf(i)}` : data.name[i]; }
function focusNear(place) {  // move the focus within the list of neighbours
  const buttons = byId("panel").querySelectorAll("li button");
  const wanted = buttons[Math.min(Math.max(place, 0), buttons.length - 1)];
  if (wanted) wanted.focus();
}
function hover(i, x, y) {
  if (i !== pointed) {
    pointed = i;
    if (i >= 0) {
      tip.replaceChildren(element("img", "", {src: source(i), alt: ""}), element("b",
        data.name[i]), element("div", classOf(i)));
    }
    draw();
  }
  tip.hidden = i < 0;
  canvas.style.cursor = i < 0 ? "" : "pointer";
  tip.style.left = Math.max(4, Math.min(x + 16, width - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(4, Math.min(y + 16, height - tip.offsetHeight - 4)) + "px";
}
function walk(right, down) {  // to the nearest image that lies in that direction
  let from = chosen, x = width / 2, y = height / 2, best = -1, least = Infinity;
  if (from >= 0) [x, y] = [xOf(from), yOf(from)];
  for (let i = 0; i < total; i++) {
    if (i === from || !shown[i]) continue;
    const dx = xOf(i) - x, dy = yOf(i) - y, distance = Math.hypot(dx, dy) + 1e-9;
    const along = (dx * right + dy * down) / distance;
    if (from >= 0 && along < 0.5) continue;
    const cost = from < 0 ? distance : distance / along ** 2;
    if (cost < least) [best, least] = [i, cost];
  }
  if (best >= 0) choose(best);
}

// The filter: all its words must stand in the file name or the class.

function filter() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(word => word);
  found = 0;
  for (let i = 0; i < total; i++) {
    shown[i] = wanted.every(word => words[i].includes(word)) &&
      (onlyClass < 0 || data.label[i] === onlyClass);
    found += shown[i];
  }
  const all = total.toLocaleString("en");
  byId("count").textContent = found === total ? `${all} images`
    : `${found.toLocaleString("en")} of ${all}`;
  hover(-1, 0, 0);
  draw();
}
function legend() {
  byId("classes").hidden = !data.classes.length;
  data.classes.forEach((name, place) => {
    const button = element("button", "", {type: "button"});
    button.setAttribute("aria-pressed", "false");
    button.append(key(data.colours[place % data.colours.length]), name);
    button.onclick = () => {
      onlyClass = onlyClass === place ? -1 : place;
      [...byId("legend").children].forEach((other, i) =>
        other.setAttribute("aria-pressed", String(i === onlyClass)));
      filter();
    };
    byId("legend").append(button);
  });
}

// Mouse, fingers and keys.

let pressed = null;
canvas.onpointerdown = event => {
  canvas.setPointerCapture(event.pointerId);
  pressed = {x: event.offsetX, y: event.offsetY, originX, originY, moved: false};
};
canvas.onpointermove = event => {
  const x = event.offsetX, y = event.offsetY;
  if (!pressed) return hover(find(x, y), x, y);
  if (Math.hypot(x - pressed.x, y - pressed.y) > 4) pressed.moved = true;
  if (!pressed.moved) return;
  canvas.classList.add("moving");
  hover(-1, 0, 0);
  originX = pressed.originX + x - pressed.x;
  originY = pressed.originY + y - pressed.y;
  atRest = false;
  draw();
};
canvas.onpointerup = event => {
  if (pressed && !pressed.moved) choose(find(event.offsetX, event.offsetY));
  canvas.classList.remove("moving");
  pressed = null;
};
canvas.onpointercancel = () => { pressed = null; canvas.classList.remove("moving"); };
canvas.onpointerleave = () => hover(-1, 0, 0);
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const lines = event.deltaMode ? 30 : 1;
  zoom(Math.exp(-event.deltaY * lines * 0.0016), event.offsetX, event.offsetY);
}, {passive: false});
canvas.onkeydown = event => {
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const zooms = {"+": 1.4, "=": 1.4, "-": 1 / 1.4};
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (steps[event.key]) walk(...steps[event.key]);
  else if (zooms[event.key]) {
    zoom(zooms[event.key], chosen < 0 ? width / 2 : xOf(chosen), chosen < 0 ? height / 2
      : yOf(chosen));
  } else if (event.key === "0") fit();
  else if (event.key === "Escape") choose(-1);
  else if (event.key === "Enter") focusNear(0);
  else return;
  event.preventDefault();
};
byId("panel").onkeydown = event => {
  const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -4, ArrowDown: 4};
  const buttons = [...byId("panel").querySelectorAll("li button")];
  if (event.key === "Escape") canvas.focus();
  else if (steps[event.key]) focusNear(buttons.indexOf(event.target) + steps[event.key]);
  else return;
  event.preventDefault();
};
byId("in").onclick = () => zoom(1.5, width / 2, height / 2);
byId("out").onclick = () => zoom(1 / 1.5, width / 2, height / 2);
byId("all").onclick = fit;
byId("filter").oninput = filter;
document.querySelector("form").onsubmit = event => {
  event.preventDefault();
  if (shown.includes(1)) choose(shown.indexOf(1));
};
function follow() {  // an address that ends in #12 shows image 12
  const place = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : -1;
  if (place < total && place !== chosen) choose(place);
}
window.addEventListener("hashchange", follow);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(() => {
  const ratio = window.devicePixelRatio || 1;
  [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  if (atRest) fit();
  paint();  // in the same frame: a canvas of a new size is empty
}).observe(canvas);

for (const [keys, does] of [
  ["click", "shows an image's nearest neighbours"], ["drag", "moves the map"],
  ["wheel", "zooms, until the points are pictures"], ["\u2190 \u2191 \u2192 \u2193",
    "walk from image to image"], ["Enter", "goes to the neighbours, Esc back"]]) {
  const line = element("p", "", {className: "muted"});
  line.append(element("kbd", keys), " " + does);
  byId("keys").append(line);
}
document.body.classList.toggle("pixel", data.pixel);
[width, height] = [canvas.clientWidth, canvas.clientHeight];
fit();
legend();
filter();
follow();
</script></body></html>
"""
