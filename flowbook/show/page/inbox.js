// The inbox: open decisions across runs, to be approved, rejected or answered in place (inbox.py has the rows).
// Needs dom.js and json.js.

const EVERY = 2 * SECOND;
const TOLD = 6 * SECOND;

/** One open decision. */
class Item {
  constructor(table, kernel, onDone) {
    this.kernel = kernel;
    this.onDone = onDone;
    this.row = make("tr", "", table);
    this.about = make("td", "", this.row);
    this.question = make("td", "fb-question", this.row);
    this.when = make("td", "fb-quiet fb-number", this.row);
    this.acts = make("td", "fb-acts", this.row);
    this.below = make("tr", "fb-below", table);
    this.panel = make("td", "", this.below);
    this.panel.colSpan = 4;
    this.below.hidden = true;
    this.said = "";
  }

  show(it) {
    const same = this.it && JSON.stringify(this.it) === JSON.stringify(it);
    this.it = it;
    if (same) return;
    this.about.replaceChildren();
    make("b", "", this.about).textContent = it.flow;
    make("code", "fb-quiet", this.about).textContent = ` ${it.short}`;
    make("div", "fb-mono fb-quiet", this.about).textContent = it.path;
    if (it.key) make("div", "fb-quiet", this.about).textContent = `key ${it.key}`;
    this.question.replaceChildren();
    if (it.question) make("div", "fb-asked", this.question).textContent = it.question;
    const value = it.about ? it.value : it.input;
    const details = make("details", "", this.question);
    make("summary", "fb-quiet", details).textContent = it.about ? `after ${it.about}` : "input";
    make("pre", "", details).textContent = JSON.stringify(value, null, 2)?.slice(0, 20000) ?? "";
    details.open = !it.question;
    this.draw();
  }

  draw() {
    const it = this.it;
    this.acts.replaceChildren();
    if (this.said || it.answered_by) {
      const status = make("span", "", this.acts);
      status.setAttribute("role", "status");
      status.textContent = this.said || `answered by ${it.answered_by}`;
      return;
    }
    const name = `${it.path} of run ${it.short}`;
    if (it.yes !== null)
      makeButton("Approve", "fb-button fb-main", this.acts, () => this.decide("approve"), `approve ${name}`);
    if (it.no !== null)
      makeButton("Reject", "fb-button fb-danger", this.acts, () => this.open("reject"), `reject ${name}`);
    const others = it.signals.filter((s) => s !== it.yes && s !== it.no);
    for (const signal of others)
      makeButton(signal, "fb-button", this.acts, () => this.decide("answer", { signal }), `answer ${signal} to ${name}`);
    makeButton("Edit…", "fb-button", this.acts, () => this.open("edit"), `edit the payload for ${name}`);
  }

  tick() {
    const since = this.it.since ? `${duration(Date.now() - Date.parse(this.it.since))} ago` : "";
    const left = this.it.due_at ? `, ${duration(Date.parse(this.it.due_at) - Date.now())} left` : "";
    if (this.when.textContent !== since + left) this.when.textContent = since + left;
  }

  /** Asks for a reason, or for the payload, below the row. */
  open(what) {
    this.panel.replaceChildren();
    this.below.hidden = false;
    const it = this.it;
    const box = make("div", "fb-panel", this.panel);
    let send;
    if (what === "reject") {
      const why = make("input", "fb-field fb-why", box);
      why.placeholder = "Why (optional)";
      why.dataset.lmSuppressShortcuts = "true";
      why.setAttribute("aria-label", `why ${it.path} of run ${it.short} is rejected`);
      why.addEventListener("keydown", (event) => event.key === "Enter" && send());
      send = () => this.decide("reject", { why: why.value });
      why.focus();
    } else {
      const signals = it.signals.length ? it.signals : [it.yes];
      const choice = make("select", "fb-field", box);
      choice.setAttribute("aria-label", `the signal for ${it.path} of run ${it.short}`);
      for (const signal of signals) make("option", "", choice).textContent = signal;
      choice.value = it.yes ?? signals[0];
      choice.hidden = signals.length < 2;
      const place = make("div", "", box);
      const renew = () => {
        place.replaceChildren();
        const name = `payload for ${it.path} of run ${it.short}`;
        const filled = it.handed_out ? [] : ["by", "why"];
        this.editor = new JsonEditor(place, name, it.schemas[choice.value], null, filled);
      };
      choice.addEventListener("change", renew);
      renew();
      send = () => {
        const payload = this.editor.value();
        if (payload === undefined) return;
        if (it.handed_out) this.decide("approve", { payload });
        else this.decide("answer", { signal: choice.value, payload });
      };
      this.editor.field.focus();
    }
    this.says = make("div", "fb-trouble", box);
    this.says.setAttribute("role", "alert");
    const row = make("div", "fb-row fb-ends", box);
    const word = what === "reject" ? "Reject" : "Send";
    makeButton(word, `fb-button ${what === "reject" ? "fb-danger" : "fb-main"}`, row, () => send(), `${word} now`);
    makeButton("Back", "fb-button", row, () => (this.below.hidden = true));
  }

  async decide(kind, args = {}) {
    for (const button of this.row.querySelectorAll("button")) button.disabled = true;
    try {
      const done = await this.kernel.ask(kind, { run: this.it.run, path: this.it.path, ...args });
      this.said = `${done.signal ?? (kind === "reject" ? "rejected" : "completed")} by ${done.by}`;
      this.below.hidden = true;
      this.until = Date.now() + TOLD;
    } catch (error) {
      if (this.below.hidden) {
        this.panel.replaceChildren();
        this.below.hidden = false;
        this.says = make("div", "fb-trouble", this.panel);
        this.says.setAttribute("role", "alert");
      }
      this.says.textContent = error.message;
      this.until = Date.now() + TOLD;
    }
    this.draw();
    this.onDone();
  }

  remove() {
    this.row.remove();
    this.below.remove();
  }
}

function render({ model, el }) {
  const root = make("div", "fb fb-inbox", el);
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "inbox of decisions");
  const bar = make("div", "fb-row", root);
  make("b", "", bar).textContent = "Inbox";
  const count = make("span", "fb-quiet", bar);
  count.setAttribute("role", "status");
  const says = make("span", "fb-quiet", bar);
  const table = make("table", "fb-table", root);
  const head = make("tr", "", make("thead", "", table));
  for (const text of ["run", "question", "since", "answer"]) {
    const cell = make("th", "", head);
    cell.scope = "col";
    cell.textContent = text;
  }
  const body = make("tbody", "", table);
  const none = make("div", "fb-quiet", root);
  none.textContent = "Nothing waits for a decision.";

  const items = new Map();
  const kernel = new Kernel(model, () => (says.textContent = "The kernel is busy and will hear of it later."));
  kernel.mourn(root, () => "Run the cell again; in a terminal: flowbook inbox");
  let asking = false;
  let rows = model.get("rows");

  function draw() {
    const now = Date.now();
    const keys = new Set(rows.map((it) => it.run + it.path + it.since));
    for (const [key, item] of items)
      if (!keys.has(key) && !(item.until > now) && item.below.hidden) {
        item.remove();
        items.delete(key);
      }
    for (const it of rows) {
      const key = it.run + it.path + it.since;
      if (!items.has(key)) items.set(key, new Item(body, kernel, refresh));
      items.get(key).show(it);
    }
    for (const item of items.values()) item.tick();
    const open = rows.filter((it) => !it.answered_by).length;
    count.textContent = open ? `${open} waiting` : "";
    none.hidden = items.size > 0;
    table.hidden = items.size === 0;
  }

  async function refresh() {
    if (asking || kernel.gone) return;
    asking = true;
    try {
      rows = await kernel.ask("inbox");
      says.textContent = "";
    } catch (error) {
      says.textContent = error.message;
    } finally {
      asking = false;
      draw();
    }
  }

  draw();
  refresh();
  const again = setInterval(() => document.visibilityState === "visible" && refresh(), EVERY);
  const tick = setInterval(draw, SECOND);
  return () => {
    clearInterval(again);
    clearInterval(tick);
    kernel.close();
  };
}

export default { render };
