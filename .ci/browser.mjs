// Uses the console in a real browser. What it needs is in the environment; see browser.py.

import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const { TOLLGATE_URL, TOLLGATE_ADMIN_URL, TOLLGATE_ADMIN_TOKEN, MODULES, PICTURES } = process.env;
const { chromium } = createRequire(join(MODULES, "x.js"))("playwright-core");
const AXE = readFileSync(join(MODULES, "axe-core", "axe.min.js"), "utf8");
const CONSOLE = `${TOLLGATE_ADMIN_URL}/console`;
const WAIT_MS = 15_000;
const PICTURE_BYTES_MAX = 150 * 1024;

// The two APIs, to make something to look at and to see what came of it.

async function answer(url, options) {
  const response = await fetch(url, options);
  const { data, ...rest } = await response.json();
  assert.ok(response.ok, `${options.method} ${url}: ${JSON.stringify(rest)}`);
  return data;
}

function operator(method, path, data) {
  const headers = { Authorization: `Bearer ${TOLLGATE_ADMIN_TOKEN}`, "Content-Type": "application/json" };
  return answer(TOLLGATE_ADMIN_URL + path, { method, headers, body: data && JSON.stringify(data) });
}

async function merchant(body) {
  const { merchant_id: id, key } = await operator("POST", "/admin/v1/merchants", body);
  const ask = (method, path, data) => {
    const text = data ? JSON.stringify(data) : "";
    const [timestamp, nonce] = [String(Math.floor(Date.now() / 1000)), randomBytes(16).toString("hex")];
    const digest = createHash("sha256").update(text).digest("hex");
    const lines = ["v1", key.id, timestamp, nonce, method, path, "", digest].join("\n");
    const signature = `v1=${createHmac("sha256", key.secret).update(lines).digest("hex")}`;
    const headers = { "X-Api-Key": key.id, "X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": signature };
    if (text) headers["Content-Type"] = "application/json";
    return answer(TOLLGATE_URL + path, { method, headers, body: text || undefined });
  };
  return { id, ask };
}

async function until(what, ask) {
  for (const end = Date.now() + WAIT_MS; Date.now() < end;) {
    const found = await ask();
    if (found) return found;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  throw new Error(`${what} did not happen in time`);
}

// A receiver of webhooks that is broken at first.

const receiver = { taken: [], isBroken: true };
const server = createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    if (!receiver.isBroken) receiver.taken.push(request.headers["webhook-id"]);
    response.writeHead(receiver.isBroken ? 503 : 204).end();
  });
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

const shop = await merchant({ name: "Corner Shop", tier: "premium", country: "US" });
await shop.ask("POST", "/api/v1/webhooks/endpoints",
  { url: `http://127.0.0.1:${server.address().port}/hook`, events: ["payment.*", "pre_auth.*"] });
const other = await merchant({ name: "<script>document.title='owned'</script>", tier: "starter", country: "DE" });
const pay = (number, more) => shop.ask("POST", "/api/v1/payments",
  { order_no: `ORDER-${number}`, amount: 2_500 + number * 731, currency: "USD", country: "US", ...more });
const notifications = (payment, status) => operator("GET",
  `/admin/v1/webhooks/notifications?merchant_id=${shop.id}&payment_no=${payment.payment_no}&status=${status}`);
const paid = await pay(0, { payment_token: "tok_visa" });
assert.equal(paid.status, "success");
const dead = await until("a webhook is given up", async () => (await notifications(paid, "failed")).items[0]);
receiver.isBroken = false;
for (let number = 1; number <= 24; number += 1) {
  const token = number % 6 === 0 ? "tok_declined" : "tok_visa";
  await pay(number, { payment_token: token });
}
await other.ask("POST", "/api/v1/payments",
  { order_no: "O-1", amount: 900, currency: "EUR", country: "DE", description: "<img src=x onerror=alert(1)>" });
const holds = [];
for (const number of [1, 2, 3]) {
  holds.push(await shop.ask("POST", "/api/v1/pre-auths",
    { order_no: `ROOM-${number}`, amount: 50_000, currency: "USD", country: "US", payment_token: "tok_visa" }));
}
// Pictures show charts of some minutes, among them one in which a channel fails.
const PICTURE_MINUTES = 5;
async function traffic(minutes) {
  const places = [["US", "USD"], ["CN", "USD"], ["US", "USD"], ["DE", "EUR"], ["GB", "USD"]];
  const fault = (down) => operator("PUT", "/admin/v1/sandbox/paypal", { down });
  const begun = Date.now();
  let isDown = false;
  for (let number = 1_000; Date.now() < begun + minutes * 60_000; number += 1) {
    const [country, currency] = places[number % places.length];
    const token = number % 13 === 0 ? "tok_declined" : "tok_visa";
    const channel = number % 3 === 0 ? ["paypal", "stripe"][number % 2] : undefined;
    const amount = 1_500 + (number * 977) % 9_000;
    pay(number, { amount, country, currency, payment_token: token, channel }).catch(() => {});
    const minute = (Date.now() - begun) / 60_000;
    const shouldBeDown = minute > 2 && minute < 2.7;
    if (isDown !== shouldBeDown) await fault(isDown = shouldBeDown);
    await new Promise((wake) => setTimeout(wake, 1_000 / (4 + 3 * Math.sin(minute * 1.7))));
  }
}
if (PICTURES) await traffic(PICTURE_MINUTES);
const hold = holds.find((hold) => hold.status === "requires_capture");
assert.ok(hold, "a deposit is held");

// The browser.

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const problems = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const note = (text) => problems.push(`${page.url()}: ${text}`);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(message.text()));
  page.on("pageerror", (error) => note(error.message));
  page.on("response", (response) => response.status() >= 400 && note(`${response.status()} ${response.url()}`));
  page.on("request", (request) => request.url().startsWith(TOLLGATE_ADMIN_URL) || note(`asks ${request.url()}`));
  return page;
}

async function logIn(page) {
  await page.goto(CONSOLE);
  await page.getByLabel("Admin token").fill(TOLLGATE_ADMIN_TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
}

async function picture(page, name, fullPage = false) {
  if (!PICTURES) return;
  const path = join(PICTURES, `${name}.png`);
  await page.screenshot({ path, fullPage });
  assert.ok(statSync(path).size < PICTURE_BYTES_MAX, `${path} is too large: ${statSync(path).size}`);
}

const heading = (page) => page.getByRole("heading", { level: 1 }).innerText();
const notice = (page) => page.locator("p.notice.good").innerText();
const steps = [];
const step = (name, work) => steps.push([name, work]);

step("the keyboard alone: log in, skip to the content, search", async () => {
  const page = await open();
  await page.goto(`${CONSOLE}/audit`);
  await page.keyboard.type(TOLLGATE_ADMIN_TOKEN);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${CONSOLE}/audit`);
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts can't see the session");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "content");
  await page.keyboard.press("/");
  await page.keyboard.type(paid.payment_no);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${CONSOLE}/payments/${paid.payment_no}`);
  // Every link and button that the keyboard comes to is seen to have it.
  for (let press = 0; press < 25; press += 1) {
    await page.keyboard.press("Tab");
    const style = await page.evaluate(() => {
      const { activeElement: element, body } = document;
      return element === body ? "solid" : getComputedStyle(element).outlineStyle;
    });
    assert.equal(style, "solid", "what has the keyboard is marked");
  }
  await page.context().close();
});

step("find a payment and read why it went where it went", async (page) => {
  await page.getByRole("navigation", { name: "Parts" }).getByRole("link", { name: "Payments" }).click();
  await page.locator("main").getByLabel("Order").first().fill(paid.order_no);
  await page.getByRole("button", { name: "Filter" }).click();
  await page.locator("table").first().getByRole("link", { name: paid.payment_no }).click();
  await page.waitForURL(`${CONSOLE}/payments/${paid.payment_no}`);
  const text = await page.locator("main").innerText();
  for (const words of [paid.order_no, paid.channel, "success", "payment.success"]) {
    assert.ok(text.includes(words), `${words} is on the payment's page`);
  }
  await picture(page, "payment");
});

step("send a webhook again", async (page) => {
  await page.goto(`${CONSOLE}/webhooks/notifications/${dead.id}`);
  await page.getByRole("link", { name: /again/ }).first().click();
  await page.getByRole("button", { name: /again/i }).click();
  assert.match(await notice(page), /\w/);
  await until("the webhook arrives", () => receiver.taken.includes(dead.id));
  await until("it is known to be taken", async () => (await notifications(paid, "success")).items[0]);
});

step("capture a deposit, which is asked about first", async (page) => {
  await page.goto(`${CONSOLE}/pre-auths`);
  await picture(page, "pre-auths");
  await page.getByRole("link", { name: hold.pre_auth_no }).first().click();
  await page.getByRole("link", { name: /^Capture/ }).first().click();
  const read = () => operator("GET", `/admin/v1/pre-auths/${hold.pre_auth_no}`);
  assert.equal((await read()).status, "requires_capture", "nothing is done before it is confirmed");
  await page.locator("main form[method=post] button[type=submit]").click();
  assert.match(await notice(page), /\w/);
  await until("the deposit is captured", async () => (await read()).status === "captured");
});

step("the overview shows itself anew", async (page) => {
  await page.goto(CONSOLE);
  await page.locator("[data-live-state]", { hasText: "Live" }).waitFor();
  const made = await pay(100, { payment_token: "tok_visa" });
  await page.locator("#payments").getByRole("link", { name: made.payment_no }).waitFor();
  await picture(page, "overview");
});

step("an overview that is told nothing any more says so", async (page) => {
  const before = problems.length;
  await page.goto(CONSOLE);
  const lost = page.locator("[data-live-lost]");
  await page.locator("[data-live-state]", { hasText: "Live" }).waitFor();
  assert.equal(await lost.isVisible(), false, "it is told");
  // It is refused as after a restart: the session is not known any more.
  await page.route("**/console/live*", (route) => route.fulfill({ status: 401, body: "{}" }));
  await page.reload();
  await lost.getByRole("link", { name: "Log in again" }).waitFor();
  assert.match(await lost.textContent(), /Logged out: not updated since \d\d:\d\d:\d\d UTC/);
  // No room is another thing: it asks again, and shows until then that it stands still.
  await page.unroute("**/console/live*");
  await page.route("**/console/live*", (route) => route.fulfill({ status: 503, body: "{}" }));
  await page.reload();
  await page.locator("[data-live-lost]", { hasText: "Connecting again" }).waitFor();
  await page.unroute("**/console/live*");
  await page.locator("[data-live-state]", { hasText: "Live" }).waitFor({ timeout: 2 * WAIT_MS });
  assert.equal(await lost.isVisible(), false, "it is told again");
  const own = problems.splice(before);
  assert.ok(own.length > 0 && own.every((problem) => /\/console\/live|(401|503)/.test(problem)), own.join("\n"));
});

// Every page that a link of the console leads to, within reason.
const pages = new Set();
step("every page is reached and none has an error", async (page) => {
  const waiting = [CONSOLE];
  const kind = (path) => path.replace(/[a-z]+_[0-9a-zA-Z]{10,}|P[AY]\d{14}\w+|\?.*$/g, "…");
  const kinds = new Set(waiting.map(kind));
  while (waiting.length > 0) {
    const path = waiting.shift();
    await page.goto(path);
    pages.add(path);
    assert.ok((await heading(page)).length > 0, path);
    const links = await page.locator("a[href]").evaluateAll((all) => all.map((link) => link.href));
    for (const link of links) {
      const plain = link.replace(/#.*$/, "");
      if (!plain.startsWith(CONSOLE) || kinds.has(kind(plain)) || plain.startsWith(`${CONSOLE}/exports`)) continue;
      kinds.add(kind(plain));
      waiting.push(plain);
    }
  }
  assert.ok(pages.size >= 20, `only ${pages.size} pages were found: ${[...pages].join(" ")}`);
});

step("no page is wider than a phone", async () => {
  const page = await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  await logIn(page);
  for (const path of pages) {
    await page.goto(path);
    const { wide, all } = await page.evaluate(() => ({
      wide: [...document.querySelectorAll("main *")].filter((part) => part.getBoundingClientRect().right > innerWidth + 1
        && !part.closest("pre, .sections")).map((part) => part.outerHTML.slice(0, 120)),
      all: document.documentElement.scrollWidth - innerWidth,
    }));
    assert.ok(all <= 0, `${path} is ${all} pixels too wide: ${wide.slice(0, 3).join(" | ")}`);
  }
  await page.goto(CONSOLE);
  await picture(page, "phone");
  await page.context().close();
});

for (const colorScheme of ["light", "dark"]) {
  step(`every page can be read by everybody, ${colorScheme}`, async (page) => {
    await page.emulateMedia({ colorScheme });
    for (const path of pages) {
      await page.goto(path);
      // The page's policy lets no script in; what the browser's driver runs is none of the page's.
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() =>
        axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 2).map((node) => node.html).join(" | ")}`);
      assert.deepEqual(found, [], path);
    }
    if (colorScheme === "dark") {
      await page.goto(CONSOLE);
      await picture(page, "dark");
      await page.emulateMedia({ colorScheme: "light" });
    }
  });
}

step("light and dark can be chosen and stay", async (page) => {
  const back = () => page.evaluate(() => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return red + green + blue > 384 ? "light" : "dark";
  });
  await page.goto(CONSOLE);
  assert.equal(await back(), "light");
  await page.getByRole("button", { name: "Dark" }).click();
  assert.equal(await back(), "dark");
  await page.goto(`${CONSOLE}/audit`);
  assert.equal(await back(), "dark");
  await page.getByRole("button", { name: "Light" }).click();
  assert.equal(await back(), "light");
});

step("pictures of the other pages", async (page) => {
  for (const name of ["webhooks", "limits", "routing"]) {
    await page.goto(`${CONSOLE}/${name}`);
    await picture(page, name);
  }
});

step("without scripts: log in, read, cancel a deposit", async () => {
  const page = await open({ javaScriptEnabled: false });
  await logIn(page);
  await page.goto(`${CONSOLE}/pre-auths/${holds[1].pre_auth_no}`);
  await page.getByRole("link", { name: /^Cancel/ }).first().click();
  await page.locator("main form[method=post] button[type=submit]").click();
  assert.match(await notice(page), /\w/);
  const read = () => operator("GET", `/admin/v1/pre-auths/${holds[1].pre_auth_no}`);
  await until("the deposit is canceled", async () => (await read()).status === "canceled");
  await page.context().close();
});

step("a form sent after the session's end is not done, and leads back to it", async () => {
  const page = await open();
  await logIn(page);
  await page.goto(`${CONSOLE}/limits/${shop.id}/tier`);
  const tab = await page.context().newPage();
  await tab.goto(CONSOLE);
  await tab.getByRole("button", { name: "Log out" }).click();
  await tab.getByLabel("Admin token").waitFor();
  await page.locator("main form[method=post] button[type=submit]").click();
  assert.match(await page.getByRole("alert").innerText(), /was not done/);
  await page.getByLabel("Admin token").fill(TOLLGATE_ADMIN_TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${CONSOLE}/limits/${shop.id}/tier`);
  await page.context().close();
});

step("what was done is in the audit", async () => {
  const { items } = await operator("GET", "/admin/v1/audit");
  const actions = items.map((entry) => entry.action);
  for (const action of ["webhook_notification.retry", "pre_auth.capture", "pre_auth.cancel"]) {
    assert.ok(actions.includes(action), `${action} is among ${actions.join(", ")}`);
  }
});

step("log out, and nothing is shown any more", async (page) => {
  await page.goto(CONSOLE);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Admin token").waitFor();
  await page.goto(`${CONSOLE}/payments`);
  assert.ok(page.url().startsWith(`${CONSOLE}/login`));
});

const page = await open();
let failed = false;
try {
  await logIn(page);
  for (const [name, work] of steps) {
    const started = Date.now();
    await work(page);
    assert.deepEqual(problems, [], "the browser's console has errors");
    console.log(`${name}: fine (${Date.now() - started} ms)`);
  }
} catch (error) {
  failed = true;
  console.error(error);
  console.error(page.url(), problems);
} finally {
  await browser.close();
  server.close();
}
process.exit(failed ? 1 : 0);
