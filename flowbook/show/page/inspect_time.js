// The inspector's topology and timeline. Needs dom.js, picture.js and inspect_base.js.

class TopologyPane extends Pane {
  build() {
    this.picture = new Picture(this.panel, { onSelect: (id, card) => card && this.choose(card.name) });
  }

  async load() {
    return this.inspector.whole;
  }

  draw(whole) {
    this.quiet = true;
    this.picture.mount(whole.picture);
    this.picture.apply(whole.nodes);
    this.picture.take(whole.edges);
    this.quiet = false;
    this.chosen();
  }

  async choose(node) {
    if (this.quiet) return;
    try {
      this.inspector.choose((await this.inspector.ask("step", { node })).path);
    } catch (error) {
      this.trouble.textContent = error.message;
    }
  }

  chosen() {
    const id = this.inspector.whole?.ids[this.inspector.step?.node];
    if (!this.picture.svg || !id || this.picture.chosen === id) return;
    this.quiet = true;
    this.picture.select(id);
    this.quiet = false;
  }

  news(message) {
    if (!this.picture.svg || this.stale) return;
    if (message.nodes) this.picture.apply(message.nodes);
    if (message.edges) this.picture.take(message.edges);
  }

  tick() {
    if (this.picture.svg) this.picture.tick();
  }
}

const LOOK_CLOSER = 4; // times, per press of a button

class TimelinePane extends Pane {
  build() {
    const tools = make("div", "fb-row fb-timetools", this.panel);
    makeButton("−", "fb-button", tools, () => this.zoom(1 / LOOK_CLOSER), "show more time");
    makeButton("+", "fb-button", tools, () => this.zoom(LOOK_CLOSER), "show less time");
    makeButton("◂", "fb-button", tools, () => this.shift(-0.5), "earlier");
    makeButton("▸", "fb-button", tools, () => this.shift(0.5), "later");
    makeButton("whole run", "fb-button", tools, () => this.look(null));
    this.shows = make("span", "fb-quiet fb-number", tools);
    this.legend = make("span", "fb-legend fb-row", tools);
    this.port = make("div", "fb-timeport", this.panel);
    this.hint = make("pre", "fb-hint fb-quiet", this.panel);
    this.port.addEventListener("click", (event) => this.press(event.target.closest(".fb-bar")));
    this.port.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["pointerover", "focusin"])
      this.port.addEventListener(name, (event) => this.explain(event.target.closest(".fb-bar")));
    this.port.addEventListener("pointerleave", () => this.explain(null));
    this.port.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 1.5 : 1 / 1.5, this.secondsAt(event.clientX));
      },
      { passive: false },
    );
    this.later = soon(() => this.refresh(), 120);
  }

  opened() {
    super.opened();
    this.window = null;
  }

  load() {
    return this.inspector.ask("timeline", this.window ? { from: this.window[0], to: this.window[1] } : {});
  }

  draw(told) {
    const focused = this.port.contains(document.activeElement);
    const before = document.activeElement?.dataset?.path;
    this.told = told;
    this.port.innerHTML = told.svg; // timeline.py's own, in which every text is escaped
    this.svg = this.port.firstElementChild;
    this.bars = [...this.svg.querySelectorAll(".fb-bar")];
    for (const bar of this.bars) {
      bar.setAttribute("role", "button");
      bar.setAttribute("tabindex", "-1");
    }
    const first = this.bars.find((bar) => bar.dataset.path === (before ?? this.inspector.path)) ?? this.bars[0];
    first?.setAttribute("tabindex", "0");
    if (focused) first?.focus({ preventScroll: true });
    const kept = told.kept ? `, ${told.kept} kept from another run` : "";
    this.shows.textContent = this.window
      ? `${duration(told.from * SECOND)} to ${duration(told.to * SECOND)} of ${duration(told.whole * SECOND)}${kept}`
      : `${duration(told.whole * SECOND)}${kept}`;
    this.legend.replaceChildren();
    for (const { part, ink, words } of told.legend) {
      const key = tell("span", "fb-key", this.legend, words);
      key.dataset.part = part;
      key.style.setProperty("--fb-ink", ink);
    }
    this.chosen();
  }

  chosen() {
    for (const bar of this.bars ?? []) {
      const on = bar.dataset.path !== undefined && bar.dataset.path === this.inspector.path;
      bar.classList.toggle("fb-chosen", on);
      bar.setAttribute("aria-pressed", String(on));
    }
  }

  press(bar) {
    if (!bar) return;
    if (bar.dataset.path !== undefined) this.inspector.choose(bar.dataset.path);
    else {
      const [from, to] = [Number(bar.dataset.from), Number(bar.dataset.to)];
      const margin = Math.max((to - from) * 0.1, this.told.whole * 1e-4);
      const width = Math.min(to - from + 2 * margin, (this.told.to - this.told.from) / 2);
      this.look([from - margin, from - margin + width]);
    }
  }

  explain(bar) {
    this.hint.textContent = bar?.querySelector("title")?.textContent ?? "";
  }

  look(window) {
    if (window) {
      const whole = this.told?.whole ?? 0;
      const width = Math.min(window[1] - window[0], whole);
      const from = Math.min(Math.max(0, window[0]), Math.max(0, whole - width));
      window = width >= whole * 0.999 ? null : [from, from + width];
    }
    this.window = window;
    this.later();
  }

  zoom(factor, at) {
    if (!this.told) return;
    const [from, to] = this.window ?? [this.told.from, this.told.to];
    const middle = at ?? (from + to) / 2;
    this.look([middle - (middle - from) / factor, middle + (to - middle) / factor]);
  }

  shift(part) {
    if (!this.window) return;
    const by = (this.window[1] - this.window[0]) * part;
    this.look([this.window[0] + by, this.window[1] + by]);
  }

  secondsAt(x) {
    const box = this.svg.getBoundingClientRect();
    const { from, left, scale } = this.svg.dataset;
    const place = ((x - box.left) * this.svg.viewBox.baseVal.width) / box.width;
    return Number(from) + (place - Number(left)) / Number(scale);
  }

  key(event) {
    const bar = event.target.closest(".fb-bar");
    const { key } = event;
    if (key === "+" || key === "=") this.zoom(LOOK_CLOSER);
    else if (key === "-") this.zoom(1 / LOOK_CLOSER);
    else if (key === "0") this.look(null);
    else if (bar && (key === "Enter" || key === " ")) this.press(bar);
    else if (bar && key in TOWARDS) this.walk(bar, TOWARDS[key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** To the next bar on the track, or to the nearest one on another. */
  walk(bar, [dx, dy]) {
    const place = (it) => it.getBoundingClientRect();
    const here = place(bar);
    let best = null;
    for (const it of this.bars) {
      if (it === bar) continue;
      const there = place(it);
      const level = Math.abs(there.top - here.top) < 8;
      const ahead = dx ? (level ? (there.left - here.left) * dx : -1) : level ? -1 : (there.top - here.top) * dy;
      const far = dx ? ahead : ahead * 10 + Math.abs(there.left - here.left);
      if (ahead > 0 && (!best || far < best.far)) best = { it, far };
    }
    if (!best) return;
    bar.setAttribute("tabindex", "-1");
    best.it.setAttribute("tabindex", "0");
    best.it.focus();
  }

  news() {
    this.stale = true;
  }
}
