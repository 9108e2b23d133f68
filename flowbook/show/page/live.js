// The live run: applies deltas to a picture that was sent once (live.py says what is sent).
// Needs dom.js.

/** One card of the picture. */
class Card {
  constructor(group) {
    this.group = group;
    this.icon = group.querySelector(".fb-icon");
    this.note = group.querySelector(".fb-note");
    this.title = group.querySelector("title");
    this.name = this.title.textContent.split(":")[0];
    this.room = Number(this.note.dataset.room);
    this.state = "pending";
  }

  show(node, icons) {
    if (node.s !== this.state) {
      this.group.classList.replace("fb-" + this.state, "fb-" + node.s);
      this.icon.setAttribute("d", icons[node.s]);
      this.state = node.s;
    }
    this.node = node;
    this.tick();
    this.title.textContent = this.name + ": " + node.s + " — " + (node.b || this.text());
  }

  text() {
    if (!this.node.c) return this.node.t;
    const now = Date.now();
    return this.node.c.replace("{}", duration(this.node.s === "running" ? now - this.node.at : this.node.at - now));
  }

  tick() {
    const text = clip(this.text(), this.room);
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}

function render({ model, el }) {
  const root = make("div", "fb-live", el);
  root.setAttribute("role", "group");
  const bar = make("div", "fb-head", root);
  const flow = make("b", "fb-flow", bar);
  const run = make("code", "fb-id", bar);
  const badge = make("span", "fb-badge", bar);
  badge.setAttribute("role", "status"); // a screen reader says it when it changes
  const facts = make("span", "fb-facts", bar);
  const clock = make("span", "fb-clock", bar);
  clock.setAttribute("role", "timer");
  clock.setAttribute("aria-label", "elapsed time");
  const cancel = makeButton("Cancel", "fb-cancel", bar, onCancel);
  const picture = make("div", "fb-picture", root);
  const says = make("div", "fb-says", root);
  says.setAttribute("role", "alert");

  const kernel = new Kernel(model, () => {
    const id = model.get("head").run;
    says.textContent = `The kernel is busy and will hear of it later. At once, in a terminal: flowbook cancel ${id}`;
  });
  let cards = new Map();

  const apply = (nodes) => {
    const icons = model.get("icons");
    for (const [id, node] of Object.entries(nodes)) cards.get(id)?.show(node, icons);
  };
  const mount = () => {
    picture.innerHTML = model.get("svg");
    const svg = picture.firstElementChild;
    svg.style.minWidth = model.get("least") * Number(svg.getAttribute("width")) + "px";
    cards = new Map([...picture.querySelectorAll("[data-node]")].map((g) => [g.dataset.node, new Card(g)]));
    apply(model.get("nodes"));
  };
  const tick = () => {
    for (const card of cards.values()) if (card.node?.c) card.tick();
    const { started, ended } = model.get("head");
    clock.textContent = started ? duration((ended ?? Date.now()) - started) : "";
  };
  const heading = () => {
    const it = model.get("head");
    root.setAttribute("aria-label", `run ${it.run} of ${it.flow}`);
    flow.textContent = it.flow;
    run.textContent = it.run;
    badge.className = "fb-badge fb-" + it.status;
    badge.textContent = it.word;
    facts.textContent = it.facts.join(" · ");
    cancel.setAttribute("aria-label", `cancel run ${it.run}`);
    cancel.hidden = it.over;
    says.textContent = it.error || it.needs;
    tick();
  };

  async function onCancel() {
    cancel.disabled = true;
    cancel.textContent = "Cancelling…";
    try {
      await kernel.ask("cancel");
    } catch (error) {
      says.textContent = error.message;
      cancel.disabled = false;
      cancel.textContent = "Cancel";
    }
  }

  const onMessage = (message) => {
    if (message.nodes) apply(message.nodes);
  };
  const onNodes = () => apply(model.get("nodes"));
  model.on("change:svg", mount);
  model.on("change:nodes", onNodes);
  model.on("change:head", heading);
  model.on("msg:custom", onMessage);
  const timer = setInterval(tick, 200);
  mount();
  heading();

  return () => {
    clearInterval(timer);
    kernel.close();
    model.off("change:svg", mount);
    model.off("change:nodes", onNodes);
    model.off("change:head", heading);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
