// The live run: applies deltas to a picture that was sent once (live.py says what is sent).
// Needs dom.js and picture.js.

function render({ model, el }) {
  const root = make("div", "fb fb-live", el);
  root.setAttribute("role", "group");
  const bar = make("div", "fb-row fb-head", root);
  const flow = make("b", "fb-flow", bar);
  const run = make("code", "fb-quiet", bar);
  const badge = make("span", "fb-badge", bar);
  badge.setAttribute("role", "status"); // a screen reader says it when it changes
  const facts = make("span", "fb-quiet fb-number", bar);
  const clock = make("span", "fb-clock fb-quiet fb-number", bar);
  clock.setAttribute("role", "timer");
  clock.setAttribute("aria-label", "elapsed time");
  const cancel = makeButton("Cancel", "fb-button fb-danger fb-cancel", bar, onCancel);
  const picture = new Picture(root);
  const says = make("div", "fb-trouble", root);
  says.setAttribute("role", "alert");

  const kernel = new Kernel(model, () => {
    const id = model.get("head").run;
    says.textContent = `The kernel is busy and will hear of it later. At once, in a terminal: flowbook cancel ${id}`;
  });
  const mount = () => {
    picture.mount(model.get("picture"));
    onNodes();
  };
  const tick = () => {
    picture.tick();
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
    if (message.nodes) picture.apply(message.nodes);
    if (message.edges) picture.take(message.edges);
  };
  const onNodes = () => {
    picture.apply(model.get("nodes"));
    picture.take(model.get("edges"));
  };
  model.on("change:picture", mount);
  model.on("change:nodes", onNodes);
  model.on("change:head", heading);
  model.on("msg:custom", onMessage);
  const timer = setInterval(tick, 200);
  mount();
  heading();

  return () => {
    clearInterval(timer);
    kernel.close();
    model.off("change:picture", mount);
    model.off("change:nodes", onNodes);
    model.off("change:head", heading);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
