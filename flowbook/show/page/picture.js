// A flow's picture: marks on its nodes and edges, zoom, pan, and choosing a node.
// svg.py draws it, picture.py says what it is told. Needs dom.js; its style is base.css and picture.css.

const ZOOM = { least: 0.08, most: 4, step: 1.25 };
const PAN = 80; // pixels per arrow key
const DRAG = 4; // pixels before a press is a drag
const TOWARDS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

/** One card of the picture. */
class Card {
  constructor(group, name) {
    this.group = group;
    this.id = group.dataset.node;
    this.icon = group.querySelector(".fb-icon");
    this.note = group.querySelector(".fb-note");
    this.title = group.querySelector("title");
    this.name = name ?? group.querySelector(".fb-name").textContent;
    this.room = Number(this.note?.dataset.room ?? 0);
    this.state = "pending";
    const rect = group.querySelector(".fb-card");
    const [x, y, w, h] = ["x", "y", "width", "height"].map((key) => Number(rect.getAttribute(key)));
    this.box = { x, y, w, h, cx: x + w / 2, cy: y + h / 2 };
    group.setAttribute("role", "button");
    group.setAttribute("tabindex", "-1");
    group.setAttribute("aria-pressed", "false");
    group.setAttribute("aria-label", this.title.textContent);
  }

  /** `node` is what picture.py's `node` made. */
  show(node, icons) {
    if (node.s !== this.state) {
      this.group.classList.replace("fb-" + this.state, "fb-" + node.s);
      this.icon?.setAttribute("d", icons[node.s]);
      this.state = node.s;
    }
    this.node = node;
    this.tick();
    const says = [this.name + ": " + node.s, this.text(), node.b].filter(Boolean);
    const text = says.filter((it, i) => !i || it !== node.s).join(" — ");
    this.title.textContent = text;
    this.group.setAttribute("aria-label", text);
    if (node.p) this.progress(...node.p);
  }

  text() {
    if (!this.node) return "";
    if (!this.node.c) return this.node.t ?? "";
    const now = Date.now();
    return this.node.c.replace("{}", duration(this.node.s === "running" ? now - this.node.at : this.node.at - now));
  }

  tick() {
    if (!this.note) return;
    const text = fitting(this.text(), this.room, 11);
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  /** The bar of svg.py's `_bar`; what is under way goes between done and failed. */
  progress(total, done, failed, running) {
    const { x, y, w, h } = this.box;
    if (!this.bars) {
      const space = this.group.namespaceURI;
      const group = document.createElementNS(space, "g");
      group.setAttribute("class", "fb-progress");
      this.bars = ["track", "done", "now", "lost"].map((name) => {
        const bar = document.createElementNS(space, "rect");
        bar.setAttribute("class", "fb-" + name);
        bar.setAttribute("y", y + h - 6.5);
        bar.setAttribute("height", 3);
        bar.setAttribute("rx", 1.5);
        group.append(bar);
        return bar;
      });
      this.group.append(group);
    }
    const whole = w - 20;
    let left = 0;
    const parts = [total, done, running, failed];
    this.bars.forEach((bar, i) => {
      const room = i === 0 ? whole : Math.min(whole - left, (whole * parts[i]) / Math.max(1, total));
      bar.setAttribute("x", x + 10 + left);
      bar.setAttribute("width", Math.max(0, room));
      if (i > 0) left += room;
    });
  }
}

/**
 * A picture below `parent`.
 *
 * `mount(its)` with `{svg, least, icons, names}` draws it (picture.py's `traits`); `apply(nodes)`, `take(edges)` and
 * `tick()` change it in place; `select(id)` chooses a node, or none, and tells `onSelect(id, card)`.
 */
class Picture {
  constructor(parent, { onSelect, label } = {}) {
    this.onSelect = onSelect;
    this.cards = new Map();
    this.ways = new Map();
    this.chosen = null;
    this.root = make("div", "fb-picture", parent);
    this.root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab hears "0 0" and restarts the kernel
    this.port = make("div", "fb-port", this.root);
    this.port.tabIndex = 0;
    this.port.setAttribute("role", "group");
    this.port.setAttribute("aria-label", label ?? "topology; arrow keys pan, plus and minus zoom, 0 fits");
    const tools = make("div", "fb-tools", this.root);
    tools.setAttribute("role", "toolbar");
    tools.setAttribute("aria-label", "zoom");
    makeButton("−", "fb-tool", tools, () => this.zoom(1 / ZOOM.step), "zoom out").title = "zoom out (−)";
    makeButton("+", "fb-tool", tools, () => this.zoom(ZOOM.step), "zoom in").title = "zoom in (+)";
    makeButton("⤢", "fb-tool", tools, () => this.fit(), "fit to width").title = "fit to width (0)";
    this.listen();
  }

  mount({ svg, least, icons, names }) {
    this.svg = drawn(svg);
    this.port.replaceChildren(this.svg);
    this.svg.setAttribute("role", "group");
    this.icons = icons;
    this.size = { w: Number(this.svg.getAttribute("width")), h: Number(this.svg.getAttribute("height")) };
    this.svg.style.minWidth = least * this.size.w + "px";
    this.cards.clear();
    for (const group of this.svg.querySelectorAll("[data-node]"))
      this.cards.set(group.dataset.node, new Card(group, names?.[group.dataset.node]));
    this.ways = new Map([...this.svg.querySelectorAll("[data-way]")].map((way) => [Number(way.dataset.way), way]));
    this.cards.values().next().value?.group.setAttribute("tabindex", "0");
    if (!this.cards.has(this.chosen)) this.chosen = null;
    else this.mark(this.cards.get(this.chosen), true);
  }

  /** Node id -> what picture.py's `node` says of it; unknown ids are left out. */
  apply(nodes) {
    for (const [id, node] of Object.entries(nodes)) this.cards.get(id)?.show(node, this.icons);
  }

  /** These edges were taken. */
  take(edges) {
    for (const i of edges) this.ways.get(i)?.classList.add("fb-taken");
  }

  /** Bring the clocks up to date. */
  tick() {
    for (const card of this.cards.values()) if (card.node?.c) card.tick();
  }

  /** Choose a node by its id; null: none. */
  select(id) {
    const card = this.cards.get(id) ?? null;
    if (this.chosen !== null) this.mark(this.cards.get(this.chosen), false);
    this.chosen = card ? id : null;
    if (card) this.mark(card, true);
    this.onSelect?.(this.chosen, card);
  }

  mark(card, on) {
    card.group.classList.toggle("fb-chosen", on);
    card.group.setAttribute("aria-pressed", String(on));
  }

  focus(card) {
    for (const it of this.svg.querySelectorAll('[data-node][tabindex="0"]')) it.setAttribute("tabindex", "-1");
    card.group.setAttribute("tabindex", "0");
    card.group.focus({ preventScroll: true });
    this.reveal(card);
  }

  /** Scroll so far that a card is in sight. */
  reveal(card) {
    const port = this.port.getBoundingClientRect();
    const it = card.group.getBoundingClientRect();
    const over = (low, high, from, to) => (low < from ? low - from - 16 : high > to ? high - to + 16 : 0);
    this.port.scrollLeft += over(it.left, it.right, port.left, port.right);
    this.port.scrollTop += over(it.top, it.bottom, port.top, port.bottom);
  }

  /** Change the size by a factor; the point `at` (client coordinates; else the middle) stays where it is. */
  zoom(factor, at) {
    const old = this.svg.getBoundingClientRect().width;
    const width = Math.min(ZOOM.most, Math.max(ZOOM.least, (old * factor) / this.size.w)) * this.size.w;
    const port = this.port.getBoundingClientRect();
    const x = (at?.x ?? port.left + port.width / 2) - port.left;
    const y = (at?.y ?? port.top + port.height / 2) - port.top;
    const [left, top] = [this.port.scrollLeft, this.port.scrollTop];
    this.resize(width);
    this.port.scrollLeft = ((left + x) * width) / old - x;
    this.port.scrollTop = ((top + y) * width) / old - y;
  }

  /** As large as the width admits, and no larger than drawn. */
  fit() {
    this.resize(Math.min(this.size.w, this.port.clientWidth));
    this.port.scrollLeft = 0;
  }

  resize(width) {
    Object.assign(this.svg.style, { width: width + "px", minWidth: "0", maxWidth: "none" });
  }

  /** The nearest card in a direction from another one. */
  towards(card, [dx, dy]) {
    let best = null;
    for (const it of this.cards.values()) {
      const [x, y] = [it.box.cx - card.box.cx, it.box.cy - card.box.cy];
      const ahead = x * dx + y * dy;
      const far = ahead + 2 * Math.abs(x * dy + y * dx);
      if (ahead > 1 && (!best || far < best.far)) best = { it, far };
    }
    return best?.it;
  }

  cardAt(target) {
    return this.cards.get(target.closest?.("[data-node]")?.dataset.node);
  }

  listen() {
    this.port.addEventListener("keydown", (event) => {
      if (!this.svg || event.altKey || event.metaKey || event.ctrlKey || !this.key(event)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.port.addEventListener("click", (event) => {
      const card = this.cardAt(event.target);
      if (this.dragged || !card) return;
      this.focus(card);
      this.select(card.id === this.chosen ? null : card.id);
    });
    this.port.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // without, the page scrolls
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY * 0.002), { x: event.clientX, y: event.clientY });
      },
      { passive: false },
    );
    this.port.addEventListener("pointerdown", (event) => this.press(event));
  }

  key(event) {
    const { key } = event;
    const card = this.cardAt(event.target);
    if (key === "+" || key === "=") this.zoom(ZOOM.step);
    else if (key === "-") this.zoom(1 / ZOOM.step);
    else if (key === "0") this.fit();
    else if (key === "Escape" && this.chosen !== null) this.select(null);
    else if (card && (key === "Enter" || key === " ")) this.select(card.id === this.chosen ? null : card.id);
    else if (key in TOWARDS && card && !event.shiftKey) {
      const next = this.towards(card, TOWARDS[key]);
      if (next) this.focus(next);
    } else if (key in TOWARDS) {
      this.port.scrollLeft += PAN * TOWARDS[key][0];
      this.port.scrollTop += PAN * TOWARDS[key][1];
    } else return false;
    return true;
  }

  press(down) {
    this.dragged = false;
    if (down.button !== 0 || down.target === this.port) return; // its scrollbars
    const [left, top] = [this.port.scrollLeft, this.port.scrollTop];
    const move = (event) => {
      const [dx, dy] = [event.clientX - down.clientX, event.clientY - down.clientY];
      if (!this.dragged && Math.hypot(dx, dy) < DRAG) return;
      if (!this.dragged) this.port.setPointerCapture(down.pointerId);
      this.dragged = true;
      this.port.classList.add("fb-dragging");
      this.port.scrollLeft = left - dx;
      this.port.scrollTop = top - dy;
    };
    const end = () => {
      this.port.classList.remove("fb-dragging");
      this.port.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) this.port.removeEventListener(name, end);
    };
    this.port.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) this.port.addEventListener(name, end);
  }
}
