// Reads and converts workflow files with GitHub's own parser, and prints the median of the times in milliseconds.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { register } from "node:module";
import { pathToFileURL } from "node:url";

// The parser imports JSON as Node.js did before it asked for an attribute.
const hook = `
import { readFileSync } from "node:fs";
export async function load(url, context, next) {
  if (!url.endsWith(".json")) return next(url, context);
  return { format: "module", source: "export default " + readFileSync(new URL(url), "utf8"), shortCircuit: true };
}`;
register("data:text/javascript," + encodeURIComponent(hook));

const parser = await import(pathToFileURL(process.argv[2]));
const times = [];
async function walk(path) {
  if (statSync(path).isDirectory()) {
    for (const name of readdirSync(path)) await walk(`${path}/${name}`);
    return;
  }
  const content = readFileSync(path, "utf8");
  const start = performance.now();
  const read = parser.parseWorkflow({ name: path, content }, new parser.NoOperationTraceWriter());
  if (read.value) await parser.convertWorkflowTemplate(read.context, read.value);
  times.push(performance.now() - start);
}
await walk(process.argv[3]);
times.sort((a, b) => a - b);
console.log(times[times.length >> 1]);
