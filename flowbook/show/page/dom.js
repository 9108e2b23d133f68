// What every widget of flowbook needs of a page: elements, durations, questions to the kernel.
// Every text goes through textContent or setAttribute. Markup comes from svg.py alone, and through `drawn`.

const SECOND = 1000;
const PATIENCE = 3 * SECOND;

/** An element with a class, at the end of its parent. */
function make(tag, className, parent) {
  const it = document.createElement(tag);
  it.className = className;
  parent?.append(it);
  return it;
}

/** A button; `name` is what a screen reader says where the text alone says too little. */
function makeButton(text, className, parent, onClick, name) {
  const it = make("button", className, parent);
  it.type = "button";
  it.textContent = text;
  if (name) it.setAttribute("aria-label", name);
  it.addEventListener("click", onClick);
  return it;
}

function duration(ms) {
  const s = Math.max(0, ms) / SECOND;
  if (s < 9.95) return s.toFixed(1) + " s";
  const whole = Math.round(s);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + "m " + two(whole % 60) + "s";
  if (whole < 86400) return Math.floor(whole / 3600) + "h " + two(Math.floor((whole % 3600) / 60)) + "m";
  return Math.floor(whole / 86400) + "d " + Math.floor((whole % 86400) / 3600) + "h";
}

const DRAWN = new Set(["svg", "title", "g", "rect", "circle", "path", "polygon", "polyline", "line", "text", "tspan"]);

/** A picture as an element. Every text in it is escaped by svg.py; whatever else might be in it does not get in here. */
function drawn(text) {
  const root = new DOMParser().parseFromString(text, "image/svg+xml").documentElement; // runs and loads nothing
  if (root.localName !== "svg") return make("span", "");
  for (const it of [root, ...root.querySelectorAll("*")]) {
    if (!DRAWN.has(it.localName)) it.remove();
    for (const { name, value } of [...it.attributes])
      if (/^on|href|^style$/i.test(name) || /url\(/i.test(value)) it.removeAttribute(name);
  }
  return document.importNode(root, true);
}

/** As much of a text as fits in so many pixels at a size; safe.py's `fitting` does the same for still pictures. */
function fitting(text, room, size) {
  const wide = (c) => {
    if ("iljtfI.,:;|!'()[] ".includes(c)) return 0.34;
    if ("mwMW@%".includes(c)) return 0.9;
    return c > "\u1100" ? 1.05 : c > "@" && c < "[" ? 0.66 : 0.57;
  };
  let left = room;
  let fits = 0;
  for (const c of text) {
    left -= wide(c) * size;
    if (left < 0) return text.slice(0, fits).trimEnd() + "…";
    if (left >= size) fits += c.length; // as far as an ellipsis fits behind it
  }
  return text;
}

function clip(text, room) {
  return text.length > room ? text.slice(0, room - 1).trimEnd() + "…" : text;
}

/**
 * Questions to the kernel (widget.py answers them).
 *
 * `ask(kind, args)` is a promise of the answer; it is rejected with an Error whose message is for people. `onBusy` is
 * called when nobody has heard of a question for a while: a cell is running, and this kernel hears clicks after it.
 */
class Kernel {
  constructor(model, onBusy) {
    this.model = model;
    this.onBusy = onBusy;
    this.asked = new Map();
    this.last = 0;
    this.page = crypto.randomUUID?.() ?? String(Math.random()); // a widget may be on two pages: each hears all answers
    this.hear = (message) => this.onMessage(message);
    model.on("msg:custom", this.hear);
  }

  ask(kind, args = {}) {
    const ask = `${this.page}-${++this.last}`;
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => this.onBusy?.(kind, args), PATIENCE);
      this.asked.set(ask, { resolve, reject, patience });
      this.model.send({ ask, kind, args });
    });
  }

  onMessage(message) {
    const it = this.asked.get(message.heard ?? message.answer);
    if (!it) return;
    clearTimeout(it.patience);
    if (message.heard) return;
    this.asked.delete(message.answer);
    if (message.trouble) it.reject(new Error(message.trouble));
    else it.resolve(message.value);
  }

  close() {
    for (const it of this.asked.values()) clearTimeout(it.patience);
    this.model.off("msg:custom", this.hear);
  }
}

/** A text that a click copies; for commands that are typed elsewhere. */
function copyLink(parent, text, shown = text) {
  const link = makeButton(shown, "fb-link fb-mono", parent, onCopy, `copy ${text}`);
  link.title = `copy ${text}`;
  async function onCopy() {
    try {
      await navigator.clipboard.writeText(text);
      link.textContent = "copied: " + text;
    } catch {
      link.textContent = text; // no clipboard on this page: it can be selected
    }
    setTimeout(() => (link.textContent = link.dataset.shown ?? shown), 1500);
  }
  return link;
}
