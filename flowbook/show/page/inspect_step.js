// The inspector's step: what it put out, its code, and a fork with an edited state. Needs dom.js and inspect_base.js.

const FRAME_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:";
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/** A mime bundle as safely as it can be shown: pictures as pictures, HTML in a frame that runs and loads nothing. */
function showBundle(bundle, parent) {
  const image = IMAGES.find((mime) => bundle[mime]);
  if (image || bundle["image/svg+xml"]) {
    const it = make("img", "fb-shown", parent);
    it.alt = bundle["text/plain"] ?? "picture";
    it.src = image
      ? `data:${image};base64,${bundle[image].replace(/\s/g, "")}`
      : "data:image/svg+xml;charset=utf-8," + encodeURIComponent(bundle["image/svg+xml"]);
  } else if (bundle["text/html"]) {
    const frame = make("iframe", "fb-frame", parent);
    frame.setAttribute("sandbox", "allow-same-origin"); // to measure it; scripts stay forbidden
    frame.title = bundle["text/plain"]?.slice(0, 80) ?? "output";
    const style = getComputedStyle(parent);
    frame.srcdoc =
      `<meta http-equiv="Content-Security-Policy" content="${FRAME_POLICY}">` +
      `<style>body{margin:0;font:13px system-ui,sans-serif;color:${style.color}}table{border-collapse:collapse}` +
      `table,td,th{border-color:#8886}td,th{padding:2px 8px;text-align:right}</style>${bundle["text/html"]}`;
    frame.addEventListener("load", () => {
      const high = frame.contentDocument?.body?.scrollHeight ?? 150;
      frame.style.height = Math.min(high + 4, 480) + "px";
    });
  } else tell("pre", "", parent, bundle["text/plain"] ?? Object.keys(bundle).join(", "));
}

class OutputPane extends Pane {
  build() {
    this.list = make("div", "fb-outputs", this.panel);
  }

  chosen() {
    this.stale = true;
  }

  news() {
    if (this.inspector.step && !["finished", "failed"].includes(this.inspector.step.state)) this.stale = true;
  }

  async load() {
    const path = this.inspector.path;
    return path ? this.inspector.ask("output", { path }) : null;
  }

  draw(told) {
    this.list.replaceChildren();
    if (!told) {
      tell("div", "fb-quiet", this.list, "Choose a step: in the topology, the timeline, the journal, or above.");
      return;
    }
    for (const it of told.outputs) this.output(it);
    for (const it of told.failures) this.failure(it);
    if (told.result) {
      const box = this.section("result");
      tell("pre", "fb-result", box, told.result);
    }
    if (!this.list.firstElementChild) tell("div", "fb-quiet", this.list, `${told.path} has put out nothing yet.`);
  }

  section(name) {
    const box = make("section", "fb-output", this.list);
    tell("div", "fb-quiet", box, name);
    return box;
  }

  output(it) {
    const box = this.section([it.kind, clockText(it.at)].filter(Boolean).join(" "));
    box.classList.add("fb-of-" + it.kind.replace(/[^a-z]/g, ""));
    if (Object.keys(it.bundle).length) showBundle(it.bundle, box);
    else tell("pre", "", box, it.text);
  }

  failure(it) {
    const box = this.section(`attempt ${it.attempt}${it.lost ? ", lost with its process" : ""}`);
    tell("div", "fb-trouble", box, `${it.type}: ${it.message}`);
    if (!it.traceback) return;
    const fold = make("details", "", box);
    fold.open = true;
    tell("summary", "fb-quiet", fold, "traceback");
    tell("pre", "fb-traceback", fold, it.traceback);
  }
}

class CodePane extends Pane {
  build() {
    this.list = make("div", "fb-codes", this.panel);
  }

  chosen() {
    this.stale = true;
  }

  async load() {
    const path = this.inspector.path;
    return path ? this.inspector.ask("code", { path }) : null;
  }

  draw(told) {
    this.list.replaceChildren();
    if (!told) {
      tell("div", "fb-quiet", this.list, "Choose a step to see its code.");
      return;
    }
    if (!told.parts.length) tell("div", "fb-quiet", this.list, "The source of this step is not stored.");
    for (const part of told.parts) this.part(part, told.known);
    if (told.changes.length) {
      const fold = make("details", "", this.list);
      tell("summary", "fb-quiet", fold, "what is different in the flow");
      const list = make("ul", "", fold);
      for (const change of told.changes) tell("li", "", list, change);
    }
  }

  part(part, known) {
    const head = make("div", "fb-row", this.list);
    tell("b", "", head, part.role);
    tell("span", "fb-quiet", head, part.where);
    const now = !known
      ? "no code of this flow is registered here"
      : part.now == null
        ? "today's flow has no such step"
        : part.same
          ? "as it is today"
          : "and today";
    tell("span", part.same || !known ? "fb-quiet" : "fb-differs", head, `as it ran (v${part.then}), ${now}`);
    const two = part.now != null && !part.same;
    const table = make("table", "fb-code", make("div", "fb-scroll", this.list));
    table.setAttribute("aria-label", `source of the ${part.role}`);
    if (two) {
      const row = make("tr", "", make("thead", "", table));
      for (const text of [`v${part.then}, as it ran`, `v${part.now}, today`]) {
        const cell = tell("th", "fb-quiet", row, text);
        cell.colSpan = 2;
        cell.scope = "col";
      }
    }
    const body = make("tbody", "", table);
    for (const it of part.rows) {
      const row = make("tr", "", body);
      const side = (number, text, kind) => {
        tell("td", "fb-quiet fb-number", row, number ?? "");
        tell("td", kind, row, text ?? "");
      };
      side(it.a, it.l, it.k === "gone" || it.k === "changed" ? "fb-minus" : "");
      if (two) side(it.b, it.r, it.k === "new" || it.k === "changed" ? "fb-plus" : "");
    }
  }
}

/** A fork with an edited state: one field of JSON per key, checked while somebody types. */
class ForkForm {
  constructor(inspector, parent) {
    this.inspector = inspector;
    this.box = make("form", "fb-panel fb-fork", parent);
    this.box.hidden = true;
    this.box.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
      event.stopPropagation();
    });
    this.check = soon(() => this.judge(), 250);
  }

  async open(path, opener) {
    this.opener = opener;
    this.path = path;
    const form = await this.inspector.ask("form", { path });
    this.box.replaceChildren();
    this.box.setAttribute("aria-label", `fork at ${path}`);
    tell("b", "", this.box, `Fork at ${path}`);
    tell("div", "fb-quiet", this.box, "A new run begins here with this state; what does not depend on it is kept.");
    this.fields = new Map();
    this.list = make("div", "fb-fields", this.box);
    for (const field of form.fields) this.field(field);
    if (!form.closed) this.another();
    const bar = make("div", "fb-row", this.box);
    this.go = makeButton("Start fork", "fb-button fb-main", bar, () => {}, `start a fork at ${path}`);
    this.go.type = "submit";
    makeButton("Close", "fb-button", bar, () => this.close());
    this.says = make("span", "fb-trouble", bar);
    this.says.setAttribute("role", "alert");
    this.box.hidden = false;
    (this.list.querySelector("textarea") ?? this.go).focus();
  }

  field({ key, text, type, refusal, preview }) {
    const row = make("div", "fb-field-row", this.list);
    const label = make("label", "", row);
    tell("b", "fb-mono", label, key);
    if (type) tell("span", "fb-quiet", label, ` ${type}`);
    if (refusal) {
      tell("div", "fb-quiet", row, refusal);
      tell("pre", "fb-quiet", row, preview);
      return;
    }
    const area = make("textarea", "fb-field", row);
    area.id = label.htmlFor = newId();
    area.value = text;
    area.rows = Math.min(12, Math.max(1, text.split("\n").length));
    area.spellcheck = false;
    const wrong = make("div", "fb-trouble", row);
    wrong.id = newId();
    area.setAttribute("aria-describedby", wrong.id);
    area.addEventListener("input", this.check);
    this.fields.set(key, { area, wrong, before: text });
  }

  /** A key that has no value yet, where the state takes any. */
  another() {
    const row = make("div", "fb-row", this.box);
    const name = makeField("input", "another key", row, { size: 16 });
    const add = () => {
      const key = name.value.trim();
      if (!key || this.fields.has(key)) return;
      this.field({ key, text: "" });
      name.value = "";
      this.fields.get(key).area.focus();
    };
    makeButton("Add", "fb-button", row, add);
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add();
    });
  }

  texts() {
    const changed = [...this.fields].filter(([, it]) => it.area.value !== it.before);
    return Object.fromEntries(changed.map(([key, it]) => [key, it.area.value]));
  }

  mark(wrong) {
    for (const [key, it] of this.fields) {
      it.wrong.textContent = wrong[key] ?? "";
      it.area.setAttribute("aria-invalid", String(key in wrong));
    }
    this.go.disabled = Object.keys(wrong).length > 0;
  }

  async judge() {
    try {
      this.mark((await this.inspector.ask("check", { texts: this.texts() })).wrong);
    } catch (error) {
      this.says.textContent = error.message;
    }
  }

  async start() {
    this.go.disabled = true;
    this.says.textContent = "";
    try {
      const { run, wrong } = await this.inspector.ask("fork", { path: this.path, texts: this.texts() });
      if (wrong) {
        this.mark(wrong);
        return;
      }
      this.close();
      await this.inspector.open(run);
    } catch (error) {
      this.says.textContent = error.message; // what was typed stays
      this.go.disabled = false;
    }
  }

  close() {
    this.box.hidden = true;
    this.opener?.focus();
  }
}
