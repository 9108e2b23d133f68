// The inspector's transcript: what was said in the run of an agent, and a fork from any message. Needs dom.js and
// inspect_base.js. The markup comes from transcript.py, which escapes every text in it.

class TalkPane extends Pane {
  build() {
    this.list = make("div", "fb-said", this.panel);
  }

  load() {
    return this.inspector.ask("transcript");
  }

  draw(told) {
    const open = [...this.list.querySelectorAll("details")].map((it) => it.open);
    this.list.innerHTML = told.html;
    [...this.list.querySelectorAll("details")].forEach((it, i) => (it.open = open[i] ?? false));
    if (!told.html) tell("div", "fb-quiet", this.list, "this run is no agent's: it has no messages");
    for (const said of this.list.querySelectorAll(".fb-message")) {
      const path = said.title;
      if (!path) continue;
      const words = `edit the conversation and fork at ${path}`;
      makeButton("Edit and fork", "fb-button", said.firstElementChild, () => this.fork(path), words);
    }
  }

  /** The form of the fork has the messages as they were before that step. */
  async fork(path) {
    await this.inspector.choose(path);
    if (this.inspector.path === path) await this.inspector.startFork();
  }

  news() {
    this.stale = true;
  }
}
