// The table of runs (runs_table.py says what is asked and answered). Needs dom.js.

const LOOK = 1000; // between two looks at what is shown
const QUIET = 3000; // the same where nothing goes on
const TYPED = 250; // after the last key of a search
const MOST_NAMED = 12; // runs that a confirmation names

const COLUMNS = [
  ["Run"], ["Flow", "flow"], ["Status", "status"], ["At"], ["Started", "created_at"], ["Took", "duration"], ["Key"],
];

function ago(ms) {
  const s = Math.max(0, ms) / SECOND;
  return s < 60 ? Math.floor(s) + " s ago" : duration(ms).split(" ")[0] + " ago";
}

/** As `duration`, and below a second in milliseconds: most runs are short. */
function span(ms) {
  return ms < SECOND ? Math.max(0, Math.round(ms)) + " ms" : duration(ms);
}

/** One run; it stays the same element as long as the run is shown, so that nobody's place or focus is lost. */
class Row {
  constructor(table, it) {
    this.table = table;
    this.id = it.id;
    const tr = (this.tr = make("tr", ""));
    tr.dataset.run = it.id;
    this.box = make("input", "", make("td", "", tr));
    this.box.type = "checkbox";
    this.box.addEventListener("change", () => table.check(this));
    this.open = makeButton("", "fb-link fb-mono", make("td", "fb-nowrap", tr), () => table.select(this));
    this.flow = make("td", "", tr);
    this.badge = make("span", "fb-badge", make("td", "", tr));
    this.at = make("td", "", tr);
    this.at = make("div", "fb-at", this.at);
    this.began = make("td", "fb-quiet fb-number fb-nowrap", tr);
    this.took = make("td", "fb-number fb-nowrap", tr);
    this.key = make("td", "fb-quiet", tr);
    tr.addEventListener("click", (event) => {
      if (!event.target.closest("input, button") && !getSelection().toString()) table.select(this);
    });
    tr.addEventListener("keydown", (event) => this.onKey(event));
    this.show(it);
  }

  show(it) {
    const changed = this.it && this.it.status !== it.status;
    this.it = it;
    const name = `run ${it.short} of ${it.flow}`;
    this.box.setAttribute("aria-label", `choose ${name}`);
    this.open.textContent = it.short;
    this.open.title = it.id;
    this.open.setAttribute("aria-label", `open ${name}, ${it.status}`);
    this.flow.textContent = it.flow;
    this.flow.title = `version ${it.version}${it.how ? ", " + it.how : ""}`;
    this.badge.className = "fb-badge fb-" + it.status;
    this.badge.textContent = it.word;
    this.at.textContent = it.at;
    this.at.title = it.at;
    this.at.classList.toggle("fb-bad", it.bad);
    this.key.textContent = [it.key, it.how].filter(Boolean).join(" · ");
    if (changed) {
      this.tr.classList.remove("fb-changed");
      void this.tr.offsetWidth; // else the animation would not begin again
      this.tr.classList.add("fb-changed");
    }
    this.tick();
  }

  tick() {
    const { it } = this;
    const now = Date.now();
    this.began.textContent = ago(now - it.created);
    this.began.title = new Date(it.created).toLocaleString();
    const end = it.ended ?? (it.going ? now : null);
    this.took.textContent = it.started && end ? span(end - it.started) : "";
  }

  onKey(event) {
    const to = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const other = to && this.tr[to]?.querySelector(event.target === this.box ? "input" : "button");
    if (!other) return;
    event.preventDefault();
    other.focus();
  }
}

class Table {
  constructor({ model, el, host, signal }) {
    this.model = model;
    this.host = host;
    this.signal = signal;
    this.frame = model.get("frame");
    this.kernel = new Kernel(model, () => this.trouble("The kernel is busy; the table goes on when it is free."));
    this.rows = new Map();
    this.checked = new Map(); // id -> what it was when it was checked, also of other pages
    this.cursors = [null];
    this.next = null;
    this.sort = this.frame.sort;
    this.picked = new Set(this.frame.status);
    this.asked = 0;
    this.build(el);
    this.show(model.get("first"));
    this.onOpened = () => this.detailed();
    model.on("change:opened", this.onOpened);
    this.detailed();
    this.clock = setInterval(() => this.tick(), SECOND);
    this.later(LOOK);
  }

  build(el) {
    const root = (this.root = make("div", "fb fb-runs", el));
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "table of runs");
    this.kernel.mourn(root, () => "Run the cell again for the runs as they are; in a terminal: flowbook runs");
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab would move between cells, or delete them
    const top = make("div", "fb-row fb-bar", root);
    const chips = make("div", "fb-row", top);
    chips.setAttribute("role", "group");
    chips.setAttribute("aria-label", "only runs of these statuses");
    this.chips = new Map(this.frame.statuses.map((it) => [it.status, this.chip(chips, it)]));
    make("span", "fb-spring", top);
    this.line = make("span", "fb-sparkline fb-quiet fb-number", top);
    this.spark = make("span", "", this.line);
    this.times = make("span", "", this.line);

    const filters = make("div", "fb-row fb-bar", root);
    filters.setAttribute("role", "search");
    this.flow = this.field("input", "flow", filters, this.frame.flow);
    this.flow.size = 16;
    this.names = make("datalist", "", filters);
    this.names.id = "fb-" + this.kernel.page;
    this.flow.setAttribute("list", this.names.id);
    this.flow.disabled = Boolean(this.frame.flow);
    this.text = this.field("input", "id, key, place or error", filters, this.frame.text);
    this.text.type = "search";
    this.since = this.field("select", "how long ago", filters);
    for (const [value, text] of Object.entries(this.frame.since)) {
      const option = make("option", "", this.since);
      option.value = value;
      option.textContent = text;
    }
    this.arrived = makeButton("", "fb-button fb-new", filters, () => this.turn([null]));
    this.arrived.hidden = true;
    this.arrived.setAttribute("aria-live", "polite");
    for (const it of [this.flow, this.text]) it.addEventListener("input", () => this.typed());
    this.since.addEventListener("change", () => this.turn([null]));

    const table = make("table", "fb-table", make("div", "fb-scroll", root));
    const head = make("tr", "", make("thead", "", table));
    this.all = make("input", "", make("th", "", head));
    this.all.type = "checkbox";
    this.all.setAttribute("aria-label", "choose all runs of this page");
    this.all.addEventListener("change", () => this.checkAll());
    this.heads = COLUMNS.map(([text, key]) => {
      const th = make("th", "", head);
      th.scope = "col";
      if (key) makeButton(text, "fb-link fb-sorter", th, () => this.order(key));
      else th.textContent = text;
      return [th, key];
    });
    this.body = make("tbody", "", table);

    const foot = make("div", "fb-row fb-foot", root);
    this.newer = makeButton("Newer", "fb-button", foot, () => this.turn(this.cursors.slice(0, -1)), "page before");
    this.older = makeButton("Older", "fb-button", foot, () => this.turn([...this.cursors, this.next]), "next page");
    this.place = make("span", "fb-quiet fb-number", foot);
    this.place.setAttribute("role", "status");
    make("span", "fb-spring", foot);
    this.acts = make("span", "fb-row", foot);
    this.chosen = make("span", "fb-quiet fb-number", this.acts);
    makeButton("Cancel…", "fb-button fb-danger", this.acts, () => this.confirm("cancel"), "cancel the chosen runs");
    makeButton("Retry…", "fb-button", this.acts, () => this.confirm("retry"), "retry the chosen runs");
    this.both = makeButton("Compare", "fb-button", this.acts, () => this.compare(), "compare the two chosen runs");
    makeButton("Clear", "fb-button", this.acts, () => this.clear(), "choose none");
    this.acts.hidden = true;
    this.says = make("div", "fb-trouble", root);
    this.says.setAttribute("role", "alert");
    this.panel = make("div", "", root);
    this.detail = make("div", "fb-panel fb-detail", root);
    this.detail.hidden = true;
  }

  field(tag, label, parent, value) {
    const it = make(tag, "fb-field", parent);
    it.setAttribute("aria-label", label);
    if (tag === "input") it.placeholder = label;
    if (value) it.value = value;
    return it;
  }

  chip(parent, { status, word, sign }) {
    const it = makeButton("", `fb-button fb-chip fb-badge fb-${status}`, parent, () => {
      if (!this.picked.delete(status)) this.picked.add(status);
      this.turn([null]);
    });
    it.append(`${sign} ${word} `);
    const number = make("span", "fb-number", it);
    return (n) => {
      number.textContent = n.toLocaleString("en");
      it.classList.toggle("fb-none", n === 0);
      it.setAttribute("aria-pressed", String(this.picked.has(status)));
    };
  }

  // -- looking --------------------------------------------------------------------------------------------------------

  args() {
    const status = [...this.picked];
    return {
      flow: this.frame.flow ? "" : this.flow.value, status, text: this.text.value, since: this.since.value,
      sort: this.sort, cursor: this.cursors.at(-1),
    };
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.turn([null]), TYPED);
  }

  order(key) {
    this.sort = this.sort === "-" + key ? key : "-" + key;
    this.turn([null]);
  }

  /** Another page: the cursors of all pages up to it. */
  async turn(cursors) {
    const before = this.cursors;
    this.cursors = cursors;
    const mine = ++this.asked;
    this.root.setAttribute("aria-busy", "true");
    try {
      const answer = await this.kernel.ask("page", this.args());
      if (mine === this.asked) this.show(answer);
    } catch (error) {
      if (mine !== this.asked) return;
      this.cursors = before;
      this.trouble(error.message);
    } finally {
      if (mine === this.asked) this.root.removeAttribute("aria-busy");
      this.later(LOOK);
    }
  }

  /** The rows that are shown, as they are now. */
  async look() {
    const mine = this.asked;
    let again = QUIET;
    try {
      if (this.watched()) {
        const ids = [...this.rows.keys()];
        const answer = await this.kernel.ask("fresh", { ...this.args(), ids });
        if (mine !== this.asked) return; // another page has been asked for since
        for (const it of answer.rows) this.rows.get(it.id)?.show(it);
        this.around(answer);
        this.trouble("");
        if (answer.new && !this.reading()) return void this.turn([null]);
        this.arrived.hidden = !answer.new;
        this.arrived.textContent = `↑ ${answer.new} new ${answer.new === 1 ? "run" : "runs"}`;
        if ([...this.rows.values()].some((row) => !row.it.over)) again = LOOK;
      }
    } catch (error) {
      this.trouble(error.message);
    } finally {
      if (mine === this.asked) this.later(again);
    }
  }

  later(ms) {
    clearTimeout(this.looking);
    if (!this.closed && !this.kernel.gone) this.looking = setTimeout(() => this.look(), ms);
  }

  /** Can anybody see it? */
  watched() {
    return document.visibilityState === "visible" && this.root.offsetParent !== null;
  }

  /** Would somebody lose his place if a row came in above? */
  reading() {
    const inside = this.root.contains(document.activeElement) && document.activeElement !== this.arrived;
    return inside || this.root.matches(":hover") || this.checked.size > 0 || Boolean(this.model.get("opened").id);
  }

  show(answer) {
    this.next = answer.next;
    const before = this.rows;
    this.rows = new Map(
      answer.rows.map((it) => {
        const row = before.get(it.id) ?? new Row(this, it);
        row.show(it);
        row.box.checked = this.checked.has(it.id);
        return [it.id, row];
      }),
    );
    const focused = document.activeElement;
    this.body.replaceChildren(...[...this.rows.values()].map((row) => row.tr));
    if (this.body.contains(focused)) focused.focus(); // moving an element takes its focus away
    if (!this.rows.size) {
      const cell = make("td", "fb-empty", make("tr", "", this.body));
      cell.colSpan = COLUMNS.length + 1;
      cell.textContent = "No runs. Narrowed down too far?";
    }
    for (const [th, key] of this.heads) {
      const by = this.sort.replace("-", "") === key;
      if (by) th.setAttribute("aria-sort", this.sort.startsWith("-") ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    this.names.replaceChildren(
      ...answer.flows.map((name) => Object.assign(document.createElement("option"), { value: name })),
    );
    this.newer.disabled = this.cursors.length === 1;
    this.older.disabled = !this.next;
    this.arrived.hidden = true;
    this.trouble("");
    this.around(answer);
    this.marked();
    this.chooses();
  }

  around(answer) {
    let total = 0;
    for (const [status, show] of this.chips) {
      const n = answer.counts[status] ?? 0;
      if (!this.picked.size || this.picked.has(status)) total += n;
      show(n);
    }
    this.spark.innerHTML = answer.spark; // markup of spark.py, which holds no text of a user's
    this.times.textContent = answer.times;
    const page = this.cursors.length;
    this.place.textContent = `page ${page}, ${this.rows.size} of ${total.toLocaleString("en")} runs`;
  }

  tick() {
    if (this.watched()) for (const row of this.rows.values()) row.tick();
  }

  trouble(text) {
    if (this.says.textContent !== text) this.says.textContent = text;
  }

  // -- one run --------------------------------------------------------------------------------------------------------

  async select(row) {
    if (this.model.get("opened").id === row.id) return this.shut();
    row.open.disabled = true;
    try {
      await this.kernel.ask("open", { id: row.id });
    } catch (error) {
      this.trouble(error.message);
    } finally {
      row.open.disabled = false;
    }
  }

  async shut() {
    const { id } = this.model.get("opened");
    await this.kernel.ask("close").catch((error) => this.trouble(error.message));
    this.rows.get(id)?.open.focus();
  }

  marked() {
    const { id } = this.model.get("opened");
    for (const row of this.rows.values()) {
      row.tr.setAttribute("aria-selected", String(row.id === id));
      row.open.setAttribute("aria-expanded", String(row.id === id));
    }
  }

  /** What is shown below: a widget of its own. */
  async detailed() {
    const { id, short, ref } = this.model.get("opened");
    this.marked();
    this.inner?.abort();
    this.detail.replaceChildren();
    this.detail.hidden = !id;
    if (!id) return;
    const inner = (this.inner = new AbortController());
    const bar = make("div", "fb-row fb-detail-head", this.detail);
    make("span", "fb-spring", bar);
    makeButton("Close", "fb-button", bar, () => this.shut(), `close run ${short}`);
    try {
      const widget = await this.host.getWidget(ref);
      if (inner.signal.aborted) return;
      await widget.render({ el: make("div", "", this.detail), signal: inner.signal });
    } catch (error) {
      if (!inner.signal.aborted) make("div", "fb-trouble", this.detail).textContent = error.message;
    }
  }

  // -- several runs ---------------------------------------------------------------------------------------------------

  check(row) {
    if (row.box.checked) this.checked.set(row.id, row.it);
    else this.checked.delete(row.id);
    this.chooses();
  }

  checkAll() {
    for (const row of this.rows.values()) {
      row.box.checked = this.all.checked;
      if (this.all.checked) this.checked.set(row.id, row.it);
      else this.checked.delete(row.id);
    }
    this.chooses();
  }

  clear() {
    this.checked.clear();
    for (const row of this.rows.values()) row.box.checked = false;
    this.chooses();
  }

  chooses() {
    const here = [...this.rows.keys()].filter((id) => this.checked.has(id)).length;
    this.all.checked = here > 0 && here === this.rows.size;
    this.all.indeterminate = here > 0 && here < this.rows.size;
    this.acts.hidden = this.checked.size === 0;
    this.chosen.textContent = `${this.checked.size} chosen`;
    this.both.hidden = this.checked.size !== 2;
  }

  /** How the two chosen runs differ, the older one first. */
  async compare() {
    const ids = [...this.checked.values()].sort((a, b) => a.created - b.created).map((it) => it.id);
    this.both.disabled = true;
    try {
      const { html, about } = await this.kernel.ask("compare", { ids });
      const panel = this.say("fb-compared", "region");
      panel.setAttribute("aria-label", about);
      const bar = make("div", "fb-row fb-detail-head", panel);
      make("b", "", bar).textContent = about;
      make("span", "fb-spring", bar);
      const close = makeButton("Close", "fb-button", bar, () => this.hush(), "close the comparison");
      make("div", "", panel).innerHTML = html; // compared.py's, where everything of a run's own is escaped
      close.focus({ preventScroll: true });
    } catch (error) {
      this.trouble(error.message);
    } finally {
      this.both.disabled = false;
    }
  }

  /** Which of the chosen runs a button concerns, as far as this page knows: the kernel does not hear. */
  whichHere(verb) {
    const all = [...this.checked.keys()].map((id) => this.rows.get(id)?.it ?? this.checked.get(id));
    const able = (it) => (verb === "retry" ? it.status === "failed" : !it.over);
    const named = (it) => `${it.flow} ${it.short}, ${it.status}`;
    const [ids, others] = [all.filter(able), all.filter((it) => !able(it))];
    return { ids: ids.map((it) => it.id), runs: ids.map(named), others: others.map(named) };
  }

  /** Act through the Jupyter server, one run after the other, under the mark that the kernel was asked with. */
  async eachThroughServer(verb, ids, mark) {
    const told = [];
    for (const run of ids) {
      const { value, trouble } = await this.kernel.throughServer(verb, { run, mark });
      const text = trouble ?? (verb === "retry" ? "goes on" : value === "cancelled" ? value : "is asked to stop");
      told.push({ id: run, short: (this.rows.get(run)?.it ?? this.checked.get(run)).short, well: !trouble, text });
    }
    return told;
  }

  /** Says how many and which, and does nothing before somebody says yes. */
  async confirm(verb) {
    let which;
    try {
      const ids = [...this.checked.keys()];
      which = await this.kernel.ask("which", { verb, ids }, () => this.whichHere(verb));
    } catch (error) {
      return this.trouble(error.message);
    }
    const panel = this.say("fb-asked", "alertdialog");
    const many = which.ids.length;
    const title = make("b", "", panel);
    title.textContent = many
      ? `${verb === "cancel" ? "Cancel" : "Retry"} ${many === 1 ? "this run" : `these ${many} runs`}?`
      : `There is nothing to ${verb} among them.`;
    panel.setAttribute("aria-label", title.textContent);
    this.list(panel, which.runs);
    if (which.others.length) {
      const why = verb === "cancel" ? "over already" : "not failed";
      const others = make("div", "fb-quiet", panel);
      others.textContent = `Left alone, ${why}: ${which.others.slice(0, MOST_NAMED).join("; ")}`;
      if (which.others.length > MOST_NAMED) others.textContent += ` and ${which.others.length - MOST_NAMED} more`;
    }
    const bar = make("div", "fb-row", panel);
    const no = makeButton(many ? "No, leave them" : "Close", "fb-button", bar, () => this.hush());
    if (many) {
      const yes = makeButton(`Yes, ${verb}`, "fb-button fb-main", bar, async () => {
        yes.disabled = no.disabled = true;
        yes.textContent = verb === "cancel" ? "Cancelling…" : "Retrying…";
        try {
          const { ids } = which;
          this.told(await this.kernel.ask(verb, { ids }, (mark) => this.eachThroughServer(verb, ids, mark)));
        } catch (error) {
          this.hush();
          this.trouble(error.message);
        }
      });
    }
    no.focus();
  }

  told(outcomes) {
    const panel = this.say("fb-told", "status");
    const well = outcomes.filter((it) => it.well).length;
    make("b", "", panel).textContent = `${well} of ${outcomes.length} done`;
    const list = make("ul", "", panel);
    for (const it of outcomes) {
      const line = make("li", it.well ? "" : "fb-failed-one", list);
      line.textContent = `${it.well ? "✓" : "✕"} ${it.short}: ${it.text}`;
    }
    makeButton("Close", "fb-button", panel, () => this.hush()).focus();
    this.clear();
    this.later(0);
  }

  list(parent, texts) {
    const list = make("ul", "", parent);
    for (const text of texts.slice(0, MOST_NAMED)) make("li", "", list).textContent = text;
    if (texts.length > MOST_NAMED) make("li", "fb-quiet", list).textContent = `and ${texts.length - MOST_NAMED} more`;
  }

  say(className, role) {
    const panel = make("div", "fb-panel " + className);
    panel.setAttribute("role", role);
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.hush();
    });
    this.panel.replaceChildren(panel);
    return panel;
  }

  hush() {
    this.panel.replaceChildren();
    this.all.focus();
  }

  close() {
    this.closed = true;
    clearInterval(this.clock);
    clearTimeout(this.looking);
    clearTimeout(this.typing);
    this.inner?.abort();
    this.kernel.close();
    this.model.off("change:opened", this.onOpened);
  }
}

function render(it) {
  const table = new Table(it);
  return () => table.close();
}

export default { render };
