// Keeps the page up to date. Without this script, everything else works.
"use strict";

const connection = document.getElementById("connection");

function show(text) {
  connection.textContent = text;
  connection.hidden = text === "";
}

// Replaces a part of the page, and keeps the focus in it.
function replace({ id, html }) {
  const old = document.getElementById(id);
  if (!old) {
    return;
  }
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = old.scrollLeft;
  const template = document.createElement("template");
  template.innerHTML = html;
  old.replaceWith(template.content);
  document.getElementById(id).scrollLeft = scrolled;
  if (focused) {
    document.getElementById(focused)?.focus();
  }
}

let source = null;

function connect() {
  source = new EventSource("/events" + location.search);
  source.addEventListener("hello", () => show(""));
  source.addEventListener("part", (event) => replace(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    show("No connection to the panel");
    if (source.readyState === EventSource.CLOSED) {
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
