// The panel below a picture: all that is known of the step that was chosen (detail.py's record).
// Needs dom.js.

class Detail {
  constructor(parent, { onClose, onChild } = {}) {
    this.root = make("section", "fb-panel fb-detail", parent);
    this.root.setAttribute("aria-live", "polite");
    this.root.hidden = true;
    this.onClose = onClose;
    this.onChild = onChild;
  }

  hide() {
    this.root.hidden = true;
    this.root.replaceChildren();
  }

  /** `it`: a record of detail.py's; `card`: what the picture says meanwhile, if there is no answer yet. */
  show(it) {
    const folded = [...this.root.querySelectorAll("details")].some((details) => details.open);
    this.root.replaceChildren();
    this.root.hidden = false;
    this.root.setAttribute("aria-label", `step ${it.path || it.name}`);
    const head = make("div", "fb-row", this.root);
    make("code", "fb-path", head).textContent = it.path || it.name;
    make("span", "fb-badge fb-" + it.state, head).textContent = it.word;
    const facts = [it.took, it.firings > 1 ? `fired ${it.firings} times` : ""].filter(Boolean);
    if (facts.length) make("span", "fb-quiet", head).textContent = facts.join(" · ");
    make("span", "fb-spring", head);
    makeButton("×", "fb-tool", head, () => this.onClose?.(), "close");
    if (it.note) make("div", "fb-quiet", this.root).textContent = it.note;
    if (it.error) this.error(it.error, folded);
    for (const line of [it.waits, it.answered, it.items?.text])
      if (line) make("div", "fb-line", this.root).textContent = line;
    for (const trouble of it.items?.troubles ?? []) make("div", "fb-trouble", this.root).textContent = trouble;
    if (it.child) this.child(it.child);
    if (it.result) this.part("result", make("pre", "fb-value")).textContent = it.result;
    if (it.attempts?.length > 1) this.attempts(it.attempts);
  }

  part(name, content) {
    const part = make("div", "fb-part", this.root);
    make("div", "fb-quiet", part).textContent = name;
    part.append(content);
    return content;
  }

  error({ text, trace }, open) {
    make("div", "fb-trouble", this.root).textContent = text;
    if (!trace) return;
    const details = make("details", "fb-trace", this.root);
    details.open = open;
    make("summary", "fb-quiet", details).textContent = "traceback";
    make("pre", "fb-value", details).textContent = trace;
  }

  child({ id, command }) {
    const line = make("div", "fb-line", this.root);
    make("span", "fb-quiet", line).textContent = "runs as " + id + " — ";
    if (this.onChild) {
      makeButton("Open", "fb-button fb-child", line, () => this.onChild(), `open run ${id} here`);
      line.append(" ");
    }
    copyLink(line, command);
  }

  attempts(attempts) {
    const table = this.part("attempts", make("table", "fb-table"));
    const body = make("tbody", "", table);
    for (const it of attempts) {
      const row = make("tr", "", body);
      for (const text of ["#" + it.number, it.began, it.took, it.says || (it.over ? "" : "under way")])
        make("td", "fb-number", row).textContent = text;
    }
  }
}
