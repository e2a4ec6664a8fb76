// Does in Airflow's UI what `make ui` and docs/connect.md say: drive_ui.mjs CHROMIUM DAG_URL CONNECTIONS_URL FOLDER
// The environment's CONNECTION is a connection as JSON, which is typed into the form. Prints what the connection tests
// answered and the colours of their icons; writes screenshots into the folder.
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
const demo = await tested("mapbox_default");

const typed = JSON.parse(process.env.CONNECTION);
await page.getByRole("button", { name: "Add Connection" }).click();
await page.fill("input[name=connection_id]", "typed");
await page.fill("[role=dialog] input[role=combobox]", "mapbox");
await page.getByRole("option", { name: "mapbox" }).first().click();
for (const field of ["host", "login", "password", "port"]) await page.fill(`input[name=${field}]`, String(typed[field]));
await page.screenshot({ path: `${folder}/form.png` });
await page.getByRole("button", { name: "Extra Fields", exact: true }).click();
await page.fill("#element_s3_endpoint_url", typed.extra.s3_endpoint_url);
await page.screenshot({ path: `${folder}/extra.png` });
await page.getByRole("button", { name: "Save" }).click();
await page.waitForSelector("[role=dialog]", { state: "detached" });
const form = await tested("typed");

console.log(JSON.stringify({ demo, form }));
await browser.close();

async function tested(id) {
  const test = page.locator("tr", { hasText: id }).locator("td").last().locator("button").first();
  await test.waitFor();
  const answered = page.waitForResponse((response) => response.url().endsWith("/connections/test"));
  await test.click();
  const answer = await answered;
  await page.waitForTimeout(500);
  await page.screenshot({ path: `${folder}/${id}.png` });
  const color = await test.locator("svg").evaluate((element) => getComputedStyle(element).color);
  return { status: answer.status(), answer: await answer.json(), color };
}
