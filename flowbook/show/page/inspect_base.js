// What the inspector's parts share: tabs, fields, the clipboard, times. Needs dom.js.

let lastId = 0;
const newId = () => `fb-${Date.now().toString(36)}-${++lastId}`;

const clockText = (ms) => {
  if (ms == null) return "";
  const at = new Date(ms);
  const two = (n, w = 2) => String(n).padStart(w, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
};
const dayText = (ms) => (ms == null ? "" : new Date(ms).toLocaleString());

/** An element with a text. */
function tell(tag, className, parent, text) {
  const it = make(tag, className, parent);
  it.textContent = text;
  return it;
}

/** A field with its label before it. */
function makeField(tag, name, parent, options = {}) {
  const label = tell("label", "fb-quiet", parent, name);
  const field = make(tag, "fb-field", parent);
  field.id = label.htmlFor = newId();
  Object.assign(field, options);
  return field;
}

/** Call `act` a little after the last of many calls, unless that is cancelled meanwhile. */
function soon(act, wait = 200) {
  let timer = 0;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Put a text on the clipboard; a page that is not served safely has no clipboard but the old way. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", "fb-sr", document.body);
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Tabs as ARIA has them: one tab stop, arrows go on, the panel follows. `onShow(name)` when another one is seen. */
class Tabs {
  constructor(parent, names, label, onShow) {
    this.onShow = onShow;
    this.list = make("div", "fb-tabs", parent);
    this.list.setAttribute("role", "tablist");
    this.list.setAttribute("aria-label", label);
    this.panels = new Map();
    this.tabs = new Map();
    for (const name of names) {
      const tab = makeButton(name, "fb-tab", this.list, () => this.show(name));
      const panel = make("div", "fb-tabpanel", parent);
      tab.id = newId();
      panel.id = newId();
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      panel.hidden = true;
      this.tabs.set(name, tab);
      this.panels.set(name, panel);
    }
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.names = names;
  }

  show(name) {
    for (const [other, tab] of this.tabs) {
      tab.setAttribute("aria-selected", String(other === name));
      tab.tabIndex = other === name ? 0 : -1;
      this.panels.get(other).hidden = other !== name;
    }
    this.shown = name;
    this.onShow(name);
  }

  /** Have a tab, or not. */
  offer(name, is) {
    this.tabs.get(name).hidden = !is;
    if (!is && this.shown === name) this.show(this.names[0]);
  }

  key(event) {
    const names = this.names.filter((name) => !this.tabs.get(name).hidden);
    const at = names.indexOf(this.shown);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const name = names[(to + names.length) % names.length];
    this.show(name);
    this.tabs.get(name).focus();
  }
}

/** What one tab shows of the run and the step that are chosen; it is asked for when somebody looks at it. */
class Pane {
  constructor(inspector, panel) {
    this.inspector = inspector;
    this.panel = panel;
    this.stale = true;
    this.serial = 0;
    this.build();
    this.trouble = make("div", "fb-trouble", panel);
    this.trouble.setAttribute("role", "alert");
  }

  /** Ask, and show the answer if nobody has asked again since. */
  async refresh() {
    this.stale = false;
    const serial = ++this.serial;
    this.panel.setAttribute("aria-busy", "true");
    try {
      const answer = await this.load();
      if (serial !== this.serial) return;
      this.trouble.textContent = "";
      this.draw(answer);
    } catch (error) {
      if (serial === this.serial) this.trouble.textContent = error.message;
    } finally {
      if (serial === this.serial) this.panel.removeAttribute("aria-busy");
    }
  }

  /** Another run. */
  opened() {
    this.stale = true;
  }

  /** Another step. */
  chosen() {}

  /** Something happened to the run. */
  news() {}
}
