// The live transcript (talk.py says what is sent). Needs dom.js.
// The markup of what was said comes from transcript.py, which renders a model's markdown with HTML switched off; the
// answer that is on its way is text.

function render({ model, el }) {
  const root = make("div", "fb fb-talk", el);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "conversation");
  const said = make("div", "fb-said", root);
  const answer = make("div", "fb-answer", root);
  answer.setAttribute("role", "log"); // a screen reader reads what is added
  answer.setAttribute("aria-label", "answer on its way");
  let path = "";

  const begin = (it) => {
    path = it;
    answer.textContent = "";
    answer.hidden = !it;
  };
  const onSaid = () => {
    const open = [...said.querySelectorAll("details")].map((it) => it.open);
    said.innerHTML = model.get("said");
    [...said.querySelectorAll("details")].forEach((it, i) => (it.open = open[i] ?? false));
  };
  const onMessage = (message) => {
    if (message.done !== undefined && message.done === path) begin("");
    if (message.say === undefined) return;
    if (message.begins || message.path !== path) begin(message.path);
    answer.append(message.say);
  };

  const tail = model.get("tail");
  begin(tail.path ?? "");
  answer.textContent = tail.text ?? "";
  onSaid();
  model.on("change:said", onSaid);
  model.on("msg:custom", onMessage);
  return () => {
    model.off("change:said", onSaid);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
