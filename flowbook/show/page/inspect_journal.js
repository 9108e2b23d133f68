// The inspector's journal: filters, pages, rows as JSON. Needs dom.js and inspect_base.js.

const PAGE_ROWS = 100;

class JournalPane extends Pane {
  build() {
    this.offset = 0;
    const form = make("form", "fb-row", this.panel);
    form.setAttribute("role", "search");
    form.setAttribute("aria-label", "journal");
    form.addEventListener("submit", (event) => event.preventDefault());
    this.kind = makeField("select", "kind", form);
    this.path = makeField("input", "path", form, { type: "search", size: 14, placeholder: "judge#1" });
    this.text = makeField("input", "text", form, { type: "search", size: 18, placeholder: "in the row's JSON" });
    const again = () => this.page(0);
    this.kind.addEventListener("change", again);
    for (const field of [this.path, this.text]) field.addEventListener("input", soon(again, 250));
    make("span", "fb-spring", form);
    this.copied = make("span", "fb-quiet", form);
    this.copied.setAttribute("role", "status");
    makeButton("Copy as JSON", "fb-button", form, () => this.copy(this.filter()), "copy the rows found as JSON");
    const port = make("div", "fb-scroll", this.panel);
    const table = make("table", "fb-table fb-journal", port);
    const head = make("tr", "", make("thead", "", table));
    for (const name of ["#", "at", "kind", "path", "attempt", "what", ""]) {
      const cell = tell("th", "", head, name);
      cell.scope = "col";
      if (!name) cell.setAttribute("aria-label", "copy");
    }
    this.body = make("tbody", "", table);
    this.body.addEventListener("keydown", (event) => this.key(event));
    const pager = make("div", "fb-row", this.panel);
    this.first = makeButton("«", "fb-button", pager, () => this.page(0), "first page");
    this.before = makeButton("‹", "fb-button", pager, () => this.page(this.offset - PAGE_ROWS), "page before");
    this.where = make("span", "fb-quiet fb-number", pager);
    this.where.setAttribute("role", "status");
    this.after = makeButton("›", "fb-button", pager, () => this.page(this.offset + PAGE_ROWS), "next page");
    this.last = makeButton("»", "fb-button", pager, () => this.page(this.end()), "last page");
  }

  opened() {
    super.opened();
    this.offset = 0;
    this.kind.replaceChildren();
    for (const kind of ["", ...this.inspector.whole.kinds]) {
      const option = tell("option", "", this.kind, kind || "all kinds");
      option.value = kind;
    }
  }

  filter() {
    return { kinds: this.kind.value ? [this.kind.value] : [], path: this.path.value, text: this.text.value };
  }

  end() {
    return Math.max(0, Math.ceil(this.found / PAGE_ROWS) - 1) * PAGE_ROWS;
  }

  page(offset) {
    this.offset = Math.max(0, offset);
    this.refresh();
  }

  load() {
    return this.inspector.ask("journal", { ...this.filter(), offset: this.offset });
  }

  draw({ rows, found, offset }) {
    this.found = found;
    this.body.replaceChildren();
    for (const row of rows) this.row(row);
    if (this.body.firstElementChild) this.body.firstElementChild.tabIndex = 0;
    const n = (it) => it.toLocaleString("en");
    this.where.textContent = found ? `${n(offset + 1)} to ${n(offset + rows.length)} of ${n(found)}` : "no such row";
    this.first.disabled = this.before.disabled = offset === 0;
    this.after.disabled = this.last.disabled = offset + rows.length >= found;
  }

  row(row) {
    const line = make("tr", "fb-kind-" + row.kind, this.body);
    line.tabIndex = -1;
    line.dataset.seq = row.seq;
    tell("td", "fb-number fb-quiet", line, row.seq);
    tell("td", "fb-number fb-quiet", line, clockText(row.at)).title = dayText(row.at);
    tell("td", "", line, row.kind);
    const path = make("td", "", line);
    if (row.path) {
      const link = makeButton(row.path, "fb-link fb-mono", path, () => this.inspector.choose(row.path.replace(/\[\d+\]$/, "")));
      link.tabIndex = -1;
      link.title = "choose this step";
    }
    tell("td", "fb-number", line, row.attempt || "");
    tell("td", "fb-what", line, row.words);
    const copy = makeButton("copy", "fb-link", make("td", "", line), () => this.copy({ seq: row.seq }));
    copy.setAttribute("aria-label", `copy row ${row.seq} as JSON`);
    copy.title = "copy as JSON";
    copy.tabIndex = -1;
    line.addEventListener("dblclick", () => this.open(line));
  }

  /** The row's whole JSON below it, or no more. */
  async open(line) {
    if (line.nextElementSibling?.classList.contains("fb-opened")) {
      line.nextElementSibling.remove();
      return;
    }
    const { text } = await this.inspector.ask("rows", { seq: Number(line.dataset.seq) });
    const below = document.createElement("tr");
    below.className = "fb-opened";
    const cell = make("td", "", below);
    cell.colSpan = 7;
    tell("pre", "", cell, text);
    line.after(below);
  }

  async copy(which) {
    try {
      const { text, rows, found } = await this.inspector.ask("rows", which);
      const done = await copyText(text);
      const rest = rows < found ? ` (of ${found})` : "";
      this.copied.textContent = done ? `${rows} ${rows === 1 ? "row" : "rows"} copied${rest}` : "this page may not copy";
    } catch (error) {
      this.trouble.textContent = error.message;
    }
  }

  key(event) {
    const line = event.target.closest("tr");
    const lines = [...this.body.querySelectorAll("tr[data-seq]")];
    const at = lines.indexOf(line);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 }[event.key];
    if (event.target !== line || at < 0) return;
    if (to !== undefined && lines[to]) {
      line.tabIndex = -1;
      lines[to].tabIndex = 0;
      lines[to].focus();
    } else if (event.key === "Enter") this.open(line);
    else if (event.key === "c") this.copy({ seq: Number(line.dataset.seq) });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  news() {
    if (!this.body.querySelector(".fb-opened") && this.offset + PAGE_ROWS > (this.found ?? 0)) this.stale = true;
  }
}
