const fs = require("fs");
const { GITHUB_REPOSITORY, GITHUB_REF, GITHUB_SHA, GITHUB_EVENT_NAME, GITHUB_STEP_SUMMARY, INPUT_SCRIPT } = process.env;
const [owner, repo] = GITHUB_REPOSITORY.split("/");
const context = { repo: { owner, repo }, ref: GITHUB_REF, sha: GITHUB_SHA, eventName: GITHUB_EVENT_NAME };
const summary = {
  text: "",
  addRaw(text) { this.text += text; return this; },
  async write() { fs.appendFileSync(GITHUB_STEP_SUMMARY, this.text); return this; },
};
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction("context", "core", INPUT_SCRIPT)(context, { summary });
