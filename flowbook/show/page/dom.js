// What every widget of flowbook needs of a page: elements, durations, questions to the kernel.
// Every text goes through textContent or setAttribute. Markup comes from Python alone (svg.py, timeline.py, spark.py,
// transcript.py), which has escaped every text in it; pictures also go through `drawn`.

const SECOND = 1000;
const PATIENCE = 1.5 * SECOND;
const GONE = new Set(["restarting", "autorestarting", "terminating", "dead"]); // JupyterLab's words

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

/** Ask the Jupyter server that this page is from, with its own token and its check against forged requests. */
async function throughServer(question) {
  const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "null");
  if (!config) throw new Error("this page is not from a Jupyter server");
  const headers = { "Content-Type": "application/json" };
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  if (xsrf) headers["X-XSRFToken"] = xsrf;
  if (config.token) headers.Authorization = `token ${config.token}`;
  const url = `${config.baseUrl ?? "/"}flowbook/control`;
  const answer = await fetch(url, { method: "POST", headers, credentials: "same-origin", body: JSON.stringify(question) });
  if (![200, 409, 422].includes(answer.status)) throw new Error(`the Jupyter server says ${answer.status}`);
  return answer.json();
}

/**
 * Questions to the kernel (widget.py answers them).
 *
 * `ask(kind, args)` is a promise of the answer; it is rejected with an Error whose message is for people. `onBusy` is
 * called when nobody has heard of a question for a while: a cell is running, and this kernel hears clicks after it. What
 * the Jupyter server can do (`control`, widget.py) is asked of it then, under the same mark, and done once.
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

  /**
   * Have `root` say it when the kernel has gone: nobody else would, and what it shows stays as it was. `advice()` is
   * what to do then. Front ends that do not tell (`widget_manager`) are as they were.
   */
  mourn(root, advice) {
    const kernel = this.model.widget_manager?.kernel;
    if (!kernel?.statusChanged?.connect) return;
    this.living = kernel;
    this.onStatus = (_, status) => {
      if (!GONE.has(status) || this.gone) return;
      this.gone = true;
      if (root.parentElement?.closest(".fb")) return; // the widget around it says so
      const at = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      const line = make("div", "fb-gone fb-panel");
      line.setAttribute("role", "alert");
      make("b", "", line).textContent = `The kernel is gone. This is the last state, of ${at}.`;
      make("div", "", line).textContent = advice();
      root.prepend(line);
    };
    kernel.statusChanged.connect(this.onStatus);
  }

  /** `otherwise(mark)`: what to do when the kernel does not hear; its answer stands for the kernel's. */
  ask(kind, args = {}, otherwise = null) {
    const ask = `${this.page}-${++this.last}`;
    const marked = { ...args, mark: ask };
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => this.unheard(ask, kind, marked, otherwise), this.gone ? 0 : PATIENCE);
      this.asked.set(ask, { resolve, reject, patience });
      this.model.send({ ask, kind, args: marked });
    });
  }

  async unheard(ask, kind, args, otherwise) {
    let answer;
    try {
      answer = otherwise ? { value: await otherwise(args.mark) } : await this.throughServer(kind, args);
    } catch {
      if (!this.gone) return this.onBusy?.(kind, args); // no such server here: the kernel will hear of it
      answer = { trouble: "The kernel is gone." };
    }
    const it = this.asked.get(ask);
    if (!it) return;
    this.asked.delete(ask);
    if (answer.trouble) it.reject(new Error(answer.trouble));
    else it.resolve(answer.value);
  }

  /** What the Jupyter server says, `{value}` or `{trouble}`; rejected if it cannot be asked. */
  async throughServer(kind, args) {
    const control = this.model.get("control");
    if (!control?.kinds?.includes(kind)) throw new Error(`the Jupyter server knows no ${kind}`);
    return throughServer({ kind, args, ...control });
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
    this.living?.statusChanged.disconnect(this.onStatus);
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
