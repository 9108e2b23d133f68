// The inspector: one run looked into, and the runs that it leads to (inspected.py says what each answer is).
// Needs dom.js, picture.js, cells.js and the parts named inspect_*.

const PANES = {
  Topology: TopologyPane,
  Timeline: TimelinePane,
  Journal: JournalPane,
  State: StatePane,
  Output: OutputPane,
  Code: CodePane,
  Transcript: TalkPane,
};
const PULSE = 5000;
const LIVELY = 700; // milliseconds between two refreshes of what is asked for anew

class Inspector {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.kernel = new Kernel(model, () => this.say("The kernel is busy; it will answer when its cell has run."));
    this.trail = []; // the runs that led here
    this.root = make("div", "fb fb-inspector", el);
    this.root.setAttribute("role", "group");
    // Its keys are its own, not the notebook's; but who saves means the notebook.
    this.ownKeys = (event) => {
      if (!this.root.contains(event.target)) return;
      const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
      if (saves) delete this.root.dataset.lmSuppressShortcuts;
      else this.root.dataset.lmSuppressShortcuts = "true";
    };
    window.addEventListener("keydown", this.ownKeys, true); // before JupyterLab's, which is the document's
    this.kernel.mourn(this.root, () => `Run the cell again, or: %flow show ${this.whole.head.run}`);
    this.head();
    this.stepBar();
    this.decisions = new Decisions(this.root, (kind, args) => this.ask(kind, args));
    this.fork = new ForkForm(this, this.root);
    this.tabs = new Tabs(this.root, Object.keys(PANES), "what to look at", () => this.refresh());
    this.panes = new Map(Object.entries(PANES).map(([name, Kind]) => [name, new Kind(this, this.tabs.panels.get(name))]));
    this.lively = soon(() => this.refresh(), LIVELY);
    this.hear = (message) => message.news && this.news(message.news);
    model.on("msg:custom", this.hear);
    this.onHome = () => {
      const home = model.get("home");
      if (home.run === this.whole?.run) this.heading(home.head);
    };
    model.on("change:home", this.onHome);
    this.root.addEventListener("focusin", () => this.pulse());
    this.timer = setInterval(() => this.tick(), 250);
    this.take(model.get("home"));
    this.tabs.show("Topology");
    if (this.whole.head.failed) this.choose(this.whole.head.failed);
    if (!this.whole.head.over) this.ask("look").catch((error) => this.say(error.message)); // have it followed
  }

  ask(kind, args = {}) {
    return this.kernel.ask(kind, { run: this.whole.run, ...args });
  }

  say(text) {
    this.says.textContent = text;
  }

  // -- the run ------------------------------------------------------------------------------------------------------

  head() {
    this.crumbs = make("nav", "fb-row fb-crumbs", this.root);
    this.crumbs.setAttribute("aria-label", "the way here");
    const bar = make("div", "fb-row fb-head", this.root);
    this.flow = make("b", "fb-flow", bar);
    this.id = make("code", "fb-quiet", bar);
    this.badge = make("span", "fb-badge", bar);
    this.badge.setAttribute("role", "status");
    this.facts = make("span", "fb-quiet fb-number", bar);
    this.clock = make("span", "fb-quiet fb-number", bar);
    this.clock.setAttribute("role", "timer");
    this.clock.setAttribute("aria-label", "elapsed time");
    make("span", "fb-spring", bar);
    this.origin = makeButton("Open parent", "fb-button", bar, () => this.open(this.whole.head.parent));
    this.origin.title = "the run that this one was forked from";
    this.verbs = {};
    for (const [verb, text] of [["resume", "Resume"], ["retry", "Retry"], ["cancel", "Cancel"]])
      this.verbs[verb] = makeButton(text, `fb-button${verb === "cancel" ? " fb-danger" : ""}`, bar, () => this.act(verb));
    this.says = make("div", "fb-trouble", this.root);
    this.says.setAttribute("role", "alert");
  }

  heading(it) {
    this.whole.head = it;
    this.root.setAttribute("aria-label", `inspector of run ${it.run} of ${it.flow}`);
    this.flow.textContent = it.flow;
    this.id.textContent = it.run;
    this.badge.className = "fb-badge fb-" + it.status;
    this.badge.textContent = it.word;
    this.facts.textContent = it.facts.join(" · ");
    this.origin.hidden = !it.parent;
    for (const [verb, button] of Object.entries(this.verbs)) {
      button.hidden = !it.can.includes(verb);
      button.setAttribute("aria-label", `${verb} run ${it.run}`);
    }
    this.decisions?.show(it.decisions);
    this.say(it.error || it.needs);
    this.tick();
  }

  async act(verb) {
    const button = this.verbs[verb];
    button.disabled = true;
    try {
      await this.ask(verb);
      await this.look();
    } catch (error) {
      this.say(error.message);
    } finally {
      button.disabled = false;
    }
  }

  /** A run that was just told in full. */
  take(whole) {
    this.whole = whole;
    this.path = null;
    this.step = null;
    this.heading(whole.head);
    this.drawCrumbs();
    this.drawStep();
    if (!this.fork.box.hidden) this.fork.box.hidden = true;
    for (const pane of this.panes.values()) pane.opened();
    this.tabs.offer("Transcript", whole.agent);
  }

  async look() {
    const whole = await this.ask("look");
    Object.assign(this.whole, whole);
    this.heading(whole.head);
    for (const pane of this.panes.values()) pane.stale = true;
    this.refresh();
  }

  /** Another run in this one's place, with a way back. */
  async open(run) {
    const from = { run: this.whole.run, name: `${this.whole.head.flow} ${this.whole.head.run}`, path: this.path };
    try {
      const whole = await this.kernel.ask("look", { run });
      this.trail.push(from);
      this.take(whole);
      this.refresh();
      this.crumbs.querySelector("button:last-of-type")?.focus();
      if (whole.head.failed) this.choose(whole.head.failed);
    } catch (error) {
      this.say(error.message);
    }
  }

  async back(to) {
    const { run, path } = this.trail[to];
    try {
      const whole = await this.kernel.ask("look", { run });
      this.trail.length = to;
      this.take(whole);
      this.refresh();
      if (path) this.choose(path);
    } catch (error) {
      this.say(error.message);
    }
  }

  drawCrumbs() {
    this.crumbs.replaceChildren();
    this.crumbs.hidden = !this.trail.length;
    this.trail.forEach((it, i) => {
      makeButton(it.path ? `${it.name} at ${it.path}` : it.name, "fb-link", this.crumbs, () => this.back(i)).title = "back";
      tell("span", "fb-quiet", this.crumbs, "›");
    });
    if (this.trail.length) tell("span", "", this.crumbs, `${this.whole.head.flow} ${this.whole.head.run}`);
  }

  // -- the step -----------------------------------------------------------------------------------------------------

  stepBar() {
    const bar = make("div", "fb-row fb-stepbar", this.root);
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "step");
    this.field = makeField("input", "step", bar, { size: 18, placeholder: "choose a step", autocomplete: "off" });
    this.choices = make("datalist", "", bar);
    this.choices.id = newId();
    this.field.setAttribute("list", this.choices.id);
    const offer = soon(() => this.offer(), 150);
    this.field.addEventListener("input", () => {
      if ([...this.choices.children].some((it) => it.value === this.field.value)) this.choose(this.field.value);
      else offer();
    });
    this.field.addEventListener("focus", () => this.offer());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.choose(this.field.value.trim());
      event.stopPropagation();
    });
    this.state = make("span", "fb-badge", bar);
    this.about = make("span", "fb-quiet fb-about", bar);
    this.toChild = makeButton("Open child", "fb-button", bar, () => this.open(this.step.child));
    this.toFork = makeButton("Fork here", "fb-button", bar, () => this.startFork());
    this.toCell = makeButton("Open here", "fb-button", bar, () => this.openHere());
    this.toCell.title = "its inputs and its source in a new cell";
    this.copyPath = makeButton("Copy path", "fb-button", bar, () => this.copy());
    this.told = make("div", "fb-quiet fb-told", this.root);
    this.told.setAttribute("role", "status");
  }

  async offer() {
    try {
      const { rows } = await this.ask("steps", { text: this.field.value === this.path ? "" : this.field.value });
      this.choices.replaceChildren();
      for (const row of rows) {
        const option = tell("option", "", this.choices, row.words);
        option.value = row.path;
      }
    } catch {
      // a list that does not come costs nothing
    }
  }

  /** Look at this step from now on, in whichever tab. */
  async choose(path) {
    if (!path || path === this.path) return;
    const run = this.whole.run;
    try {
      const step = await this.ask("step", { path });
      if (run !== this.whole.run) return;
      this.path = path;
      this.step = step;
      this.say(this.whole.head.error || this.whole.head.needs);
    } catch (error) {
      this.say(error.message);
      return;
    }
    this.drawStep();
    for (const pane of this.panes.values()) pane.chosen();
    this.refresh();
  }

  drawStep() {
    const it = this.step;
    this.field.value = it?.path ?? "";
    this.state.hidden = !it;
    this.state.className = "fb-badge fb-state-" + (it?.state ?? "");
    this.state.textContent = it?.words ?? "";
    const facts = it ? [it.took, it.attempt > 1 ? `attempt ${it.attempt}` : "", it.says] : [];
    this.about.textContent = clip(facts.filter(Boolean).join(" · "), 120);
    this.about.title = it?.says ?? "";
    for (const button of [this.toFork, this.toCell]) button.hidden = !it || it.inner;
    this.copyPath.hidden = !it;
    this.toChild.hidden = !it?.child;
    this.told.textContent = "";
  }

  async startFork() {
    try {
      await this.fork.open(this.path, this.toFork);
    } catch (error) {
      this.say(error.message);
    }
  }

  async openHere() {
    const command = `%flow enter ${this.whole.head.run} ${this.path}`;
    try {
      const { text } = await this.ask("enter", { path: this.path });
      const done = cellBelow(this.model, this.el, text);
      this.told.textContent = done
        ? "It is in the cell below: fix it, run it, then %flow continue " + this.whole.head.run
        : `In a cell of its own: ${command}`;
    } catch (error) {
      this.say(error.message);
    }
  }

  async copy() {
    this.told.textContent = (await copyText(this.path)) ? `${this.path} is copied` : this.path;
  }

  // -- time ---------------------------------------------------------------------------------------------------------

  /** Have the tab that is seen ask for what it does not know. */
  refresh() {
    if (this.gone) return;
    const pane = this.panes?.get(this.tabs.shown);
    if (pane?.stale) pane.refresh();
  }

  news(news) {
    if (news.run !== this.whole.run) return;
    this.whole.seq = news.seq;
    if (news.nodes) Object.assign(this.whole.nodes, news.nodes);
    if (news.edges) this.whole.edges = news.edges;
    if (news.head) this.heading(news.head);
    for (const pane of this.panes.values()) pane.news(news);
    this.again ??= setTimeout(() => this.catchUp(), LIVELY);
  }

  async catchUp() {
    this.again = undefined;
    this.refresh();
    if (!this.path || this.gone) return;
    const path = this.path;
    const step = await this.ask("step", { path }).catch(() => null);
    if (!step || path !== this.path || JSON.stringify(step) === JSON.stringify(this.step)) return;
    const told = this.told.textContent;
    const typing = document.activeElement === this.field ? this.field.value : null;
    this.step = step;
    this.drawStep();
    this.told.textContent = told;
    if (typing != null) this.field.value = typing;
  }

  /** A run that is over may have been taken up again elsewhere: see to it when somebody comes back to the page. */
  pulse() {
    const now = Date.now();
    if (!this.whole?.head.over || now - (this.pulsed ?? 0) < PULSE) return;
    this.pulsed = now;
    this.ask("pulse").catch(() => {}); // what has changed comes as news
  }

  tick() {
    if (this.kernel.gone) return; // what is shown is the last state
    const { started, ended } = this.whole.head;
    this.clock.textContent = started ? duration((ended ?? Date.now()) - started) : "";
    this.panes?.get("Topology").tick();
    this.decisions?.tick();
  }

  close() {
    this.gone = true;
    window.removeEventListener("keydown", this.ownKeys, true);
    clearInterval(this.timer);
    clearTimeout(this.again);
    this.kernel.close();
    this.model.off("msg:custom", this.hear);
    this.model.off("change:home", this.onHome);
  }
}

function render({ model, el }) {
  const inspector = new Inspector(model, el);
  return () => inspector.close();
}

export default { render };
