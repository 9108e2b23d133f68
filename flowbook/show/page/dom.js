// What every widget of flowbook needs of a page: elements, durations, questions to the kernel.
// Every text goes through textContent or setAttribute. Markup comes from svg.py alone, which has escaped it.

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

function clip(text, room) {
  return room && text.length > room ? text.slice(0, room - 1).trimEnd() + "…" : text;
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
