const { spawnSync } = require("child_process");

module.exports = (script) => {
  const { status } = spawnSync("bash", ["-eo", "pipefail", "-c", script || ""], { stdio: "inherit" });
  process.exitCode = status;
};
