// The inspector's state: both sides of a step, and a slider through time. Needs dom.js and inspect_base.js.

const SIGNS = { "+": "fb-plus", "-": "fb-minus", "…": "fb-gap", " ": "" };
const HOW = { new: "new", gone: "gone", changed: "changed", same: "" };

class StatePane extends Pane {
  build() {
    const bar = make("div", "fb-row", this.panel);
    this.before = makeButton("‹", "fb-button", bar, () => this.go(this.index - 1), "step before");
    this.slider = make("input", "fb-slider", bar);
    Object.assign(this.slider, { type: "range", min: 0, max: 0, step: 1 });
    this.slider.setAttribute("aria-label", "through time");
    this.after = makeButton("›", "fb-button", bar, () => this.go(this.index + 1), "next step");
    this.where = make("span", "fb-number fb-where", bar);
    this.where.setAttribute("role", "status");
    this.list = make("div", "fb-state", this.panel);
    this.scrub = soon(() => this.go(Number(this.slider.value)), 40);
    this.slider.addEventListener("input", this.scrub);
    this.slider.addEventListener("keydown", (event) => event.stopPropagation());
  }

  opened() {
    super.opened();
    this.wanted = null;
  }

  chosen() {
    if (!this.drawing) this.scrub?.cancel(); // a step that somebody has chosen meanwhile is the later wish
    if (this.inspector.path === this.shownPath && !this.stale) return;
    this.wanted = null;
    this.stale = true;
  }

  /** Through time: the step that stands there becomes the chosen one. */
  go(index) {
    this.wanted = Math.min(Math.max(0, index), Number(this.slider.max));
    this.refresh();
  }

  load() {
    if (this.wanted != null) return this.inspector.ask("moment", { index: this.wanted });
    if (this.inspector.path) return this.inspector.ask("moment", { path: this.inspector.path });
    return this.inspector.ask("moment", { index: 1e9 });
  }

  draw(told) {
    this.index = told.index;
    this.slider.max = told.count - 1;
    this.slider.value = told.index;
    const name = told.path || "input";
    const when = told.at ? `, ${clockText(told.at)}` : "";
    const left = told.finished ? "" : " (not finished: this is what it sees)";
    this.where.textContent = `${told.index} of ${told.count - 1}: ${name}${when}${left}`;
    this.slider.setAttribute("aria-valuetext", `${name}${when}`);
    this.before.disabled = told.index <= 0;
    this.after.disabled = told.index >= told.count - 1;
    this.list.replaceChildren();
    const changed = told.keys.filter((it) => it.how !== "same");
    const same = told.keys.filter((it) => it.how === "same");
    for (const it of changed) this.key(it, this.list);
    if (!changed.length) tell("div", "fb-quiet", this.list, told.path ? "this step changed nothing" : "no input");
    if (same.length) {
      const fold = make("details", "fb-same", this.list);
      fold.open = this.unfolded ?? !changed.length;
      fold.addEventListener("toggle", () => (this.unfolded = fold.open));
      tell("summary", "fb-quiet", fold, same.length === 1 ? "1 key unchanged" : `${same.length} keys unchanged`);
      for (const it of same) this.key(it, fold);
    }
    this.shownPath = told.path;
    if (this.wanted == null || !told.path) return;
    this.drawing = true;
    this.inspector.choose(told.path);
    this.drawing = false;
  }

  key(it, parent) {
    const box = make("div", "fb-key-state fb-how-" + it.how, parent);
    const name = make("div", "", box);
    tell("b", "fb-mono", name, it.key);
    if (HOW[it.how]) tell("span", "fb-quiet fb-how", name, HOW[it.how]);
    const text = make("div", "fb-diff", box);
    const sign = { new: "+", gone: "-" }[it.how] ?? " ";
    const lines = it.lines ?? it.text.split("\n").map((line) => [sign, line]);
    for (const [mark, line] of lines) {
      const row = make("div", `fb-line ${SIGNS[mark] ?? ""}`, text);
      tell("span", "fb-sign", row, mark === " " ? "" : mark);
      tell("span", "", row, line);
      if (mark === "+" || mark === "-") row.setAttribute("aria-label", `${mark === "+" ? "now" : "before"}: ${line}`);
    }
  }

  news() {
    if (this.wanted == null && !this.inspector.path) this.stale = true;
  }
}
