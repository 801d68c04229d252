// A tour through the pages in a real browser. It prints what a person would see, a line each.
//
// Arguments: the server's address, the folder of node modules, the browser, the file that lets the job go
// on, and a folder for pictures. The admin token is in MUSTER_TOKEN.

import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [url, modules, browserPath, go, pictures] = process.argv.slice(2);
const require = createRequire(join(modules, "tour.cjs"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const say = (line) => process.stdout.write(`${line}\n`);
const browser = await chromium.launch({
  executablePath: browserPath,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
const complaints = [];

async function context(options) {
  const opened = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
  opened.setDefaultTimeout(20_000);
  return opened;
}

// Judges a page as it stands: for those who do not see it, and on a narrow screen.
async function look(page, name) {
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  const found = violations.map((violation) => `${violation.id} at ${violation.nodes[0].target}`);
  say(`${name}: "${await page.title()}", ${found.length === 0 ? "accessible" : found.join("; ")}`);
  await page.setViewportSize({ width: 375, height: 700 });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wider > 0) say(`${name}: ${wider} pixels too wide for a phone`);
  await page.screenshot({ path: join(pictures, `${name}-phone.png`) });
  await page.setViewportSize({ width: 1200, height: 800 });
}

const signedIn = await context({});
const page = await signedIn.newPage();
page.on("console", (message) => {
  // A wrong token is answered 401, and the browser says so.
  if (message.type() === "error" && !message.text().includes("401")) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));

await page.goto(url);
say(`without the token: ${new URL(page.url()).pathname}`);
await page.getByLabel("token", { exact: false }).fill("muster_wrong");
await page.getByRole("button").click();
say(`a wrong token: ${await page.getByRole("alert").innerText()}`);
await page.getByLabel("token", { exact: false }).fill(process.env.MUSTER_TOKEN);
await page.getByRole("button").click();
await page.waitForURL(`${url}/`);
await look(page, "runs");

// A title that is markup is text.
const title = "<img src=x onerror=document.title='owned'> & more";
await page.getByRole("link", { name: title, exact: true }).click();
await page.waitForURL(/\/runs\//);
await look(page, "run");
await page.getByRole("link", { name: "slow", exact: true }).click();
await page.waitForURL(/\/jobs\//);

// The log grows while it is looked at.
const log = page.locator("#log");
await log.getByText("before the wait").waitFor();
say(`while it runs: ${await page.locator("#live").innerText()}`);
await look(page, "job-running");
await page.evaluate(() => { globalThis.sameDocument = true; });
writeFileSync(go, "");
await page.waitForFunction(() => document.querySelector("#log").innerText.includes("after the wait"));
say(`grew without loading the page again: ${await page.evaluate(() => globalThis.sameDocument === true)}`);
await page.locator("h1 .success").waitFor();
await look(page, "job");
say(await page.locator("h1").innerText());
const text = await log.innerText();
say(`the log: ${text.split("\n").filter((line) => line.includes("<b>")).join("|")}`);

for (const [link, name] of [["Webhooks", "webhooks"], ["Outbox", "outbox"]]) {
  await page.getByRole("link", { name: link, exact: true }).click();
  await page.waitForURL(/\/(deliveries|outbox)$/);
  await look(page, name);
}
await page.goto(`${url}/`);
await page.locator("td a code").first().click();
await page.waitForURL(/\/commits\//);
await look(page, "commit");

// Without JavaScript everything is there to be read.
const cookies = await signedIn.cookies();
const plain = await context({ javaScriptEnabled: false });
await plain.addCookies(cookies);
const still = await plain.newPage();
await still.goto(`${url}/jobs/1`);
const lines = (await still.locator("#log").innerText()).split("\n");
say(`without JavaScript: ${lines.filter((line) => line.endsWith("the wait")).join(", ")}`);
await browser.close();
say(complaints.length === 0 ? "the browser has no complaints" : complaints.join("\n"));
