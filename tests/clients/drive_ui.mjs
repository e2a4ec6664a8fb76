// Does in Airflow's UI what `make ui` says to do first: drive_ui.mjs CHROMIUM DAG_URL CONNECTIONS_URL FOLDER
// Prints the colour of the connection test's icon, and writes screenshots into the folder.
import { chromium } from "playwright-core";

const [executablePath, dag, connections, folder] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage({ viewport: { width: 1300, height: 900 } });
page.setDefaultTimeout(60000);

await page.goto(dag);
await page.click("[data-testid=trigger-dag-button]");
await page.waitForSelector("[data-testid=trigger-dag-submit]");
await page.screenshot({ path: `${folder}/trigger.png` });
await page.click("[data-testid=trigger-dag-submit]");
await page.waitForSelector("[data-testid=trigger-dag-submit]", { state: "detached" });

await page.goto(connections);
const row = page.locator("tr", { hasText: "mapbox_default" });
const test = row.locator("td").last().locator("button").first();
await test.waitFor();
const answered = page.waitForResponse((response) => response.url().endsWith("/connections/test"));
await test.click();
const answer = await answered;
const icon = test.locator("svg");
await page.waitForTimeout(500);
await page.screenshot({ path: `${folder}/connections.png` });
const color = await icon.evaluate((element) => getComputedStyle(element).color);
console.log(JSON.stringify({ status: answer.status(), answer: await answer.json(), color,
  page: await page.locator("body").innerText() }));
await browser.close();
