// Open decisions: a row for each place where a run waits for somebody (decisions.py says which).
// Needs dom.js. `ask(kind, args)` is a Kernel's: "answer" {path, signal, payload?} for a pause,
// "approve" {path, payload?} and "reject" {path, why?} for a step that was handed out.

/** One place that waits. */
class Decision {
  constructor(parent, it, ask) {
    this.ask = ask;
    this.it = it;
    this.root = make("div", "fb-panel fb-decision", parent);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", `decision at ${it.name}`);
    const row = make("div", "fb-row", this.root);
    make("span", "fb-badge fb-waiting", row).textContent = it.name;
    this.says = make("span", "fb-quiet fb-number", row);
    make("span", "fb-spring", row);
    this.buttons = this.choices().map(([text, style, kind, args]) =>
      makeButton(text, "fb-button " + style, row, () => this.decide(kind, args), `${text}: ${it.name}`),
    );
    this.open = makeButton("Edit…", "fb-button", row, () => this.edit(), `edit what is sent to ${it.name}`);
    this.open.setAttribute("aria-expanded", "false");
    this.editor = make("textarea", "fb-field", this.root);
    this.editor.setAttribute("aria-label", `what is sent to ${it.name}, as JSON`);
    this.editor.dataset.lmSuppressShortcuts = "true";
    this.editor.rows = 3;
    this.editor.value = "{}";
    this.editor.spellcheck = false;
    this.editor.hidden = true;
    this.editor.addEventListener("input", () => this.payload() !== null && this.trouble(""));
    this.error = make("div", "fb-trouble", this.root);
    this.error.setAttribute("role", "alert");
    this.show(it);
  }

  choices() {
    const { handed, path, signals } = this.it;
    if (handed)
      return [
        ["Complete", "fb-main", "approve", { path }],
        ["Fail", "fb-danger", "reject", { path }],
      ];
    const only = signals.length === 1;
    const style = (tone) => (tone === "no" ? "fb-danger" : tone === "yes" || only ? "fb-main" : "");
    return signals.map(({ signal, name, tone }) => [name, style(tone), "answer", { path, signal }]);
  }

  show(it) {
    if (it.refused && it.refused !== this.it.refused) {
      this.trouble("refused: " + it.refused);
      this.busy(false);
    } else if (it.refused && !this.error.textContent) this.trouble("refused: " + it.refused);
    this.it = it;
    this.tick();
  }

  tick() {
    const { due, since, handed } = this.it;
    const parts = [handed ? "handed out" : "waits for an answer"];
    if (since) parts.push("for " + duration(Date.now() - since));
    if (due) parts.push(duration(due - Date.now()) + " left");
    this.says.textContent = parts.join(" · ");
  }

  edit() {
    this.editor.hidden = !this.editor.hidden;
    this.open.setAttribute("aria-expanded", String(!this.editor.hidden));
    if (!this.editor.hidden) this.editor.focus();
  }

  /** What the editor holds: undefined without an editor, null where it is no JSON (and then it is said). */
  payload() {
    if (this.editor.hidden) return undefined;
    try {
      return { payload: JSON.parse(this.editor.value) };
    } catch (error) {
      this.trouble(`this is no JSON: ${error.message}`);
      return null;
    }
  }

  async decide(kind, args) {
    const given = this.payload();
    if (given === null) return;
    this.busy(true);
    this.trouble("");
    try {
      await this.ask(kind, { ...args, ...given });
    } catch (error) {
      this.trouble(error.message); // somebody was first, or it does not fit
      this.busy(false);
    }
  }

  busy(on) {
    for (const button of [...this.buttons, this.open]) button.disabled = on;
    this.editor.disabled = on;
  }

  trouble(text) {
    this.error.textContent = text;
  }
}

/** All of a run's; `show(list)` with decisions.py's list keeps what somebody is typing. */
class Decisions {
  constructor(parent, ask) {
    this.root = make("div", "fb-decisions", parent);
    this.ask = ask;
    this.open = new Map();
  }

  show(list) {
    const now = new Map(list.map((it) => [it.path + " " + it.since, it]));
    for (const [key, decision] of this.open)
      if (!now.has(key)) {
        decision.root.remove();
        this.open.delete(key);
      }
    for (const [key, it] of now)
      if (this.open.has(key)) this.open.get(key).show(it);
      else this.open.set(key, new Decision(this.root, it, this.ask));
  }

  tick() {
    for (const decision of this.open.values()) decision.tick();
  }
}
