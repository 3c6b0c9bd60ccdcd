// Keeps the page up to date. Without this script, everything else works.
"use strict";

const MAX_TEXT = 200000;
const connection = document.getElementById("connection");

function show(text) {
  connection.textContent = text;
  connection.hidden = text === "";
}

// Changes an element into another one. Nodes that stay the same are not replaced: they may have the focus, or be clicked.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
  } else if (!fresh.hasAttribute("data-keep")) {
    [...old.attributes].filter(({ name }) => !fresh.hasAttribute(name)).forEach(({ name }) => old.removeAttribute(name));
    [...fresh.attributes].forEach(({ name, value }) => old.setAttribute(name, value));
    morphChildren(old, fresh);
  }
}

function morphChildren(old, fresh) {
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id && [...old.children].find(({ id }) => id === child.id);
    if (known && known !== next) {
      old.insertBefore(known, next);
      morph(known, child);
    } else if (!next || (next.id && next !== known)) {
      old.insertBefore(child, next);
    } else {
      const old = next;
      next = next.nextSibling;
      morph(old, child);
    }
  }
  while (next) {
    const old = next;
    next = next.nextSibling;
    old.remove();
  }
}

function replace({ id, html }) {
  const old = document.getElementById(id);
  const template = document.createElement("template");
  template.innerHTML = html;
  if (old) {
    morph(old, template.content.firstElementChild);
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

// The chart: one dot for each response, by the time and the response time, and a line for each change of what visitors get.
const HEIGHT = 150, LEFT = 50, RIGHT = 8, BOTTOM = 20, TOP = 18;
let points = [], marks = [];

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
  const width = Math.max(svg.parentElement.clientWidth, 200);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const first = points[0][0], last = points.at(-1)[0];
  const top = round(Math.max(...points.map(([, ms]) => ms), 10));
  const x = (at) => (LEFT + ((at - first) / Math.max(last - first, 1)) * (width - LEFT - RIGHT)).toFixed(1);
  const y = (ms) => (HEIGHT - BOTTOM - (ms / top) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  for (const ms of [0, top / 2, top]) {
    add(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(ms), y2: y(ms) });
    add(svg, "text", { x: LEFT - 8, y: Number(y(ms)) + 4, "text-anchor": "end" }, `${ms} ms`);
  }
  add(svg, "text", { x: LEFT, y: HEIGHT - 4 }, `${first.toFixed(0)} s`);
  add(svg, "text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, `${last.toFixed(0)} s`);
  for (const [at, label] of marks.filter(([at]) => at >= first && at <= last)) {
    const end = x(at) > width - 60;
    add(svg, "line", { class: "mark", x1: x(at), x2: x(at), y1: 2, y2: HEIGHT - BOTTOM });
    add(svg, "text", { x: Number(x(at)) + (end ? -4 : 4), y: 11, "text-anchor": end ? "end" : "start" }, label);
  }
  for (const [at, ms, kind] of points) {
    add(svg, "circle", { class: kind, cx: x(at), cy: y(ms), r: kind === "failed" ? 4 : 2.5 });
  }
  const failed = points.filter(([, , kind]) => kind === "failed").length;
  svg.setAttribute("aria-label", `Response times of ${points.length} requests up to ${top} ms, ${failed} failed`);
}

window.addEventListener("resize", draw);

let source = null;

function connect() {
  source = new EventSource("/events" + location.search);
  const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  on("hello", () => show(""));
  on("part", replace);
  on("log", log);
  on("samples", (job) => {
    points = (job.reset ? job.points : points.concat(job.points)).slice(-2000);
    marks = job.marks;
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
