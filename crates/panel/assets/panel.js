// Keeps the page up to date. Without this script, everything else works.
"use strict";

const MAX_TEXT = 200000;
const connection = document.getElementById("connection");

function show(text) {
  connection.textContent = text;
  connection.hidden = text === "";
}

// Replaces a part of the page. What other events fill stays, and so does the focus.
function replace({ id, html }) {
  const old = document.getElementById(id);
  if (!old) {
    return;
  }
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = old.scrollLeft;
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const empty of template.content.querySelectorAll("[data-keep]")) {
    const kept = document.getElementById(empty.id);
    if (kept && old.contains(kept)) {
      empty.replaceWith(kept);
    }
  }
  old.replaceWith(template.content);
  document.getElementById(id).scrollLeft = scrolled;
  if (focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

function log({ id, reset, text }) {
  const element = document.getElementById(id);
  if (!element) {
    return;
  }
  const follows = element.scrollTop + element.clientHeight >= element.scrollHeight - 30;
  if (reset) {
    element.textContent = "";
  }
  element.append(text);
  if (element.textContent.length > MAX_TEXT) {
    element.textContent = element.textContent.slice(-MAX_TEXT / 2);
  }
  if (follows) {
    element.scrollTop = element.scrollHeight;
  }
}

// The chart: one dot for each response, by the time and the response time.
const WIDTH = 720, HEIGHT = 150, LEFT = 50, BOTTOM = 20, TOP = 12;
let points = [];

function add(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  if (text !== undefined) {
    element.textContent = text;
  }
  parent.append(element);
}

// The next greater of 1, 2, 5, 10, 20, 50...
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5].find((step) => step * power >= value) ?? 10);
}

function draw() {
  const svg = document.querySelector("#chart svg");
  if (!svg) {
    return;
  }
  svg.replaceChildren();
  if (points.length === 0) {
    return;
  }
  const first = points[0][0], span = Math.max(points.at(-1)[0] - first, 1);
  const top = round(Math.max(...points.map((point) => point[1]), 10));
  const x = (at) => (LEFT + ((at - first) / span) * (WIDTH - LEFT - 8)).toFixed(1);
  const y = (ms) => (HEIGHT - BOTTOM - (ms / top) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  for (const ms of [0, top / 2, top]) {
    add(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(ms), y2: y(ms) });
    add(svg, "text", { x: LEFT - 6, y: Number(y(ms)) + 4, "text-anchor": "end" }, `${ms} ms`);
  }
  add(svg, "text", { x: WIDTH - 8, y: HEIGHT - 4, "text-anchor": "end" }, `${span.toFixed(0)} s`);
  const flip = points.find((point) => point[3]);
  if (flip && flip !== points[0]) {
    add(svg, "line", { class: "flip", x1: x(flip[0]), x2: x(flip[0]), y1: TOP - 8, y2: HEIGHT - BOTTOM });
  }
  for (const [at, ms, good, open] of points) {
    const kind = good ? (open ? "ok" : "check") : "failed";
    add(svg, "circle", { class: kind, cx: x(at), cy: y(ms), r: good ? 2.5 : 4 });
  }
  const failed = points.filter((point) => !point[2]).length;
  svg.setAttribute("aria-label", `Response times of ${points.length} requests up to ${top} ms, ${failed} failed`);
}

let source = null;

function connect() {
  source = new EventSource("/events" + location.search);
  const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  on("hello", () => show(""));
  on("part", replace);
  on("log", log);
  on("samples", ({ reset, points: more }) => {
    points = (reset ? more : points.concat(more)).slice(-2000);
    draw();
  });
  source.addEventListener("error", () => {
    show("No connection to the panel");
    if (source?.readyState === EventSource.CLOSED) {
      setTimeout(connect, 3000);
    }
  });
}

// A page that nobody sees asks no server.
document.addEventListener("visibilitychange", () => {
  source?.close();
  source = null;
  if (!document.hidden) {
    connect();
  }
});
connect();
