// Looks at a tileset's page as a person would, and says what it saw: drive_map.mjs CHROMIUM URL SCREENSHOT
import { chromium } from "playwright-core";

const [executablePath, url, screenshot] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
const errors = [];
const foreign = [];
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
page.on("pageerror", (error) => errors.push(String(error)));
page.on("request", (request) => {
  const { protocol, origin } = new URL(request.url());
  if (protocol.startsWith("http") && origin !== new URL(url).origin) foreign.push(request.url());
});
await page.goto(url);
await page.waitForSelector("#map[data-drawn]", { timeout: 60000 });
const drawn = Number(await page.getAttribute("#map", "data-drawn"));
const land = Number(await page.getAttribute("#map", "data-land"));
const box = await page.locator("#map").boundingBox();
await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
// An image has no features with attributes.
if (await page.locator("#layers label").count()) await page.waitForSelector("#attributes tr", { timeout: 10000 });
const attributes = await page.locator("#attributes tr").allInnerTexts();
const layers = await page.locator("#layers label").allInnerTexts();
await page.screenshot({ path: screenshot });
await browser.close();
console.log(JSON.stringify({ drawn, land, attributes, layers, errors, foreign }));
