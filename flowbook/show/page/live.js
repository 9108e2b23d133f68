// The live run: a heading, a picture that changes in place, open decisions, and the step that was chosen
// (live.py says what is sent). Needs dom.js, picture.js, decisions.js and detail.js.

const VERBS = {
  cancel: { text: "Cancel", doing: "Cancelling…", style: "fb-danger" },
  resume: { text: "Resume", doing: "Resuming…", style: "fb-main" },
  retry: { text: "Retry", doing: "Retrying…", style: "fb-main" },
};

const SETTLE = 3 * SECOND;

/** One line: flow, run, status, facts, clock, and buttons for what is possible now. */
class Heading {
  constructor(parent, onVerb) {
    this.onVerb = onVerb;
    this.bar = make("div", "fb-row fb-head", parent);
    this.flow = make("b", "fb-flow", this.bar);
    this.run = make("span", "", this.bar);
    this.badge = make("span", "fb-badge", this.bar);
    this.badge.setAttribute("role", "status"); // a screen reader says it when it changes
    this.facts = make("span", "fb-quiet fb-number", this.bar);
    this.clock = make("span", "fb-clock fb-quiet fb-number", this.bar);
    this.clock.setAttribute("role", "timer");
    this.clock.setAttribute("aria-label", "elapsed time");
    make("span", "fb-spring", this.bar);
    this.buttons = new Map();
  }

  show(it) {
    this.it = it;
    this.flow.textContent = it.flow;
    if (!this.run.firstChild) copyLink(this.run, it.command, it.run);
    this.badge.className = "fb-badge fb-" + it.status;
    if (this.badge.textContent !== it.word) this.badge.textContent = it.word;
    this.facts.textContent = it.facts.join(" · ");
    for (const [verb, button] of this.buttons)
      if (!it.can.includes(verb)) {
        button.remove();
        this.buttons.delete(verb);
      }
    for (const verb of it.can) if (!this.buttons.has(verb)) this.buttons.set(verb, this.button(verb, it));
    this.tick();
  }

  button(verb, it) {
    const { text, doing, style } = VERBS[verb];
    const button = makeButton(text, "fb-button " + style, this.bar, onClick, `${verb} run ${it.run}`);
    button.classList.add("fb-" + verb);
    const { onVerb } = this;
    async function onClick() {
      button.disabled = true;
      button.textContent = doing;
      if (await onVerb(verb)) await new Promise((done) => setTimeout(done, SETTLE));
      button.disabled = false; // if it is still there: the next picture says what has come of it
      button.textContent = text;
    }
    return button;
  }

  tick() {
    const { started, ended } = this.it;
    const text = started ? duration((ended ?? Date.now()) - started) : "";
    if (this.clock.textContent !== text) this.clock.textContent = text;
  }
}

/** The run that was started at a step, in the place of this one, with a way back. */
class Within {
  constructor(root, { model, host, ask, onTrouble }) {
    Object.assign(this, { root, model, host, ask, onTrouble });
    this.nav = make("nav", "fb-row fb-crumbs", root);
    this.nav.setAttribute("aria-label", "the way here");
    this.box = make("div", "fb-child-run", root);
    this.nav.hidden = this.box.hidden = true;
    this.onOpened = () => this.show();
    model.on("change:opened", this.onOpened);
  }

  async open(node) {
    this.asked = true;
    await this.ask("child", { node }).catch((error) => this.onTrouble(error.message));
  }

  async show() {
    const { ref, at } = this.model.get("opened");
    this.inner?.abort();
    this.box.replaceChildren();
    this.nav.replaceChildren();
    this.root.classList.toggle("fb-within", Boolean(ref));
    this.nav.hidden = this.box.hidden = !ref;
    if (!ref) {
      if (this.asked) this.root.querySelector(".fb-child")?.focus();
      return;
    }
    const inner = (this.inner = new AbortController());
    const { flow, run } = this.model.get("head");
    const back = makeButton(`‹ ${flow} ${run} at ${at}`, "fb-link", this.nav, () => this.back(), `back to run ${run} of ${flow}`);
    if (this.asked) back.focus();
    try {
      const widget = await this.host.getWidget(ref);
      if (!inner.signal.aborted) await widget.render({ el: this.box, signal: inner.signal });
    } catch (error) {
      if (!inner.signal.aborted) this.onTrouble(error.message);
    }
  }

  async back() {
    await this.ask("back").catch((error) => this.onTrouble(error.message));
  }

  close() {
    this.inner?.abort();
    this.model.off("change:opened", this.onOpened);
  }
}

function render({ model, el, host }) {
  const root = make("div", "fb fb-live", el);
  root.setAttribute("role", "group");
  const kernel = new Kernel(model, (kind) => {
    if (kind === "step") return; // the picture says most of it
    const { run } = model.get("head");
    const now = kind === "cancel" ? ` At once, in a terminal: flowbook cancel ${run}` : "";
    says.textContent = `The kernel is busy and will hear of it later.${now}`;
  });
  const ask = (kind, args) => kernel.ask(kind, args);
  kernel.mourn(root, () => {
    const { run, over } = model.get("head");
    return over ? `Once more: %flow show ${run}` : `The run can go on: %flow resume ${run}. To look at it: %flow show ${run}`;
  });
  const heading = new Heading(root, async (verb) => {
    try {
      await ask(verb);
      return true;
    } catch (error) {
      says.textContent = error.message;
      return false;
    }
  });
  const inner = new Within(root, { model, host, ask, onTrouble: (text) => (says.textContent = text) });
  const picture = new Picture(root, { onSelect });
  const decisions = new Decisions(root, ask);
  const onChild = model.get("opens") ? () => inner.open(picture.chosen) : null;
  const detail = new Detail(root, { onClose: () => picture.select(null), onChild });
  const says = make("div", "fb-trouble", root);
  says.setAttribute("role", "alert");
  const enter = make("div", "fb-line", root);
  let asking = 0;

  async function onSelect(id, card) {
    const mine = ++asking;
    if (!card) {
      detail.hide();
      return;
    }
    const known = () => ({ name: card.name, state: card.state, word: card.state, note: card.node?.b || card.text() });
    if (detail.root.hidden || detail.root.dataset.node !== id) detail.show(known());
    detail.root.dataset.node = id;
    try {
      const it = await ask("step", { node: id });
      if (mine === asking) detail.show(it);
    } catch {
      if (mine === asking) detail.show(known());
    }
  }

  const showHead = (it) => {
    root.setAttribute("aria-label", `run ${it.run} of ${it.flow}`);
    heading.show(it);
    decisions.show(it.decisions ?? []);
    says.textContent = it.error || it.needs;
    enter.replaceChildren();
    if (it.enter) {
      make("span", "fb-quiet", enter).textContent = "open the step in a new cell: ";
      copyLink(enter, it.enter);
    }
  };
  const apply = ({ nodes, edges, head }) => {
    if (nodes) picture.apply(nodes);
    if (edges) picture.take(edges);
    if (head) showHead(head);
    if (nodes && picture.chosen in nodes) onSelect(picture.chosen, picture.cards.get(picture.chosen));
  };
  const onMessage = (message) => {
    if (!message.sent) return; // an answer
    apply(message);
    root.dataset.sent = message.sent; // when Python sent what is shown
  };
  const onTraits = () => apply({ nodes: model.get("nodes"), edges: model.get("edges"), head: model.get("head") });
  const crowd = makeButton("", "fb-link fb-crowd", root, () => ask("expand", { all: crowd.dataset.all === "yes" }));
  picture.root.before(crowd);
  const mount = () => {
    const its = model.get("picture");
    crowd.hidden = its.groups == null;
    crowd.dataset.all = its.groups ? "yes" : "no";
    crowd.textContent = its.groups ? "long chains are put together; show every step" : "put long chains together";
    picture.mount(its);
    onTraits();
  };
  const timer = setInterval(() => {
    if (kernel.gone) return; // what is shown is the last state
    picture.tick();
    heading.tick();
    decisions.tick();
  }, 200);
  mount();
  inner.show();
  model.on("change:picture", mount);
  model.on("msg:custom", onMessage);

  return () => {
    clearInterval(timer);
    inner.close();
    kernel.close();
    model.off("change:picture", mount);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
