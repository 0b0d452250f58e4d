// Drives the Alipay emulator of the program that the first argument names with Alipay's official SDK, which is installed in
// the folder that the second argument names: money is held by bar code and through the payer's app, asked about, taken in
// part and let go. The SDK checks the signature of every answer, and of every notification that arrives here.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const WAIT_MS = 30_000;
const [program, folder] = process.argv.slice(2);
const { AlipaySdk } = createRequire(join(folder, "package.json"))("alipay-sdk");

// The emulator's credentials are public: they stand in the source.
const source = readFileSync(new URL("../src/sandbox/credentials.rs", import.meta.url), "utf8");
function credential(name) {
  const found = source.match(new RegExp(`pub const ${name}: &str =\\s*"([^"]*)"`));
  assert(found, `no credential ${name}`);
  return found[1].replace(/\\\n\s*/g, "");
}

const notifications = [];
const receiver = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    notifications.push(Object.fromEntries(new URLSearchParams(body)));
    response.end("success");
  });
});
await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
const notifyUrl = `http://127.0.0.1:${receiver.address().port}/callbacks/alipay`;

const sandbox = spawn(program, ["sandbox", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
process.on("exit", () => sandbox.kill());
setTimeout(() => {
  console.error("this takes too long");
  process.exit(1);
}, 3 * WAIT_MS).unref();

async function emulatorUrl() {
  for await (const line of createInterface({ input: sandbox.stdout })) {
    const [name, url] = line.split(/\s+/);
    if (name === "alipay") return url;
  }
  throw new Error("the sandbox did not start");
}

const base = await emulatorUrl();
const sdk = new AlipaySdk({
  appId: credential("ALIPAY_APP_ID"),
  privateKey: credential("ALIPAY_APP_PRIVATE_KEY"),
  keyType: "PKCS8",
  alipayPublicKey: credential("ALIPAY_PUBLIC_KEY"),
  gateway: `${base}/gateway.do`,
});

async function call(method, bizContent) {
  const answer = await sdk.exec(method, { bizContent, notifyUrl }, { validateSign: true });
  assert.equal(answer.code, "10000", `${method}: ${JSON.stringify(answer)}`);
  return answer;
}

async function told(kind, field, value) {
  const until = Date.now() + WAIT_MS;
  while (Date.now() < until) {
    const found = notifications.find((fields) => fields.notify_type === kind && fields[field] === value);
    if (found) {
      assert(sdk.checkNotifySign(found), `the SDK refuses ${JSON.stringify(found)}`);
      const forged = { ...found, notify_id: "1" };
      assert(!sdk.checkNotifySign(forged), "the SDK accepts a forged notification");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing was told: ${kind} ${value}`);
}

function hold(number) {
  return { out_order_no: number, out_request_no: `${number}f`, order_title: "Deposit", amount: "10.00" };
}

// By bar code: held, asked about, taken in part; the rest is let go with it.
const byBarCode = { product_code: "PRE_AUTH", auth_code: "28763443825664394", auth_code_type: "bar_code" };
const frozen = await call("alipay.fund.auth.order.freeze", { ...hold("SDK1"), ...byBarCode });
const asked = { auth_no: frozen.authNo, out_request_no: "SDK1f", operation_type: "FREEZE" };
assert.equal((await call("alipay.fund.auth.operation.detail.query", asked)).orderStatus, "AUTHORIZED");
const capture = {
  out_trade_no: "SDK1c",
  total_amount: "4.00",
  subject: "Stay",
  product_code: "PRE_AUTH",
  auth_no: frozen.authNo,
  auth_confirm_mode: "COMPLETE",
};
assert.equal((await call("alipay.trade.pay", capture)).totalAmount, "4.00");
const finished = await call("alipay.fund.auth.operation.detail.query", asked);
assert.deepEqual([finished.orderStatus, finished.restAmount, finished.totalPayAmount], ["FINISH", "0.00", "4.00"]);
await told("fund_auth_freeze", "auth_no", frozen.authNo);
await told("trade_status_sync", "out_trade_no", "SDK1c");

// Through the payer's app: the SDK signs the order, the page asks the payer, and what is held is let go.
const order = sdk.sdkExecute("alipay.fund.auth.order.app.freeze", {
  bizContent: { ...hold("SDK2"), product_code: "PREAUTH_PAY" },
  notifyUrl,
});
const page = await (await fetch(`${base}/pay/app?${order}`)).text();
const approve = page.match(/action="([^"]*approve)"/);
assert(approve, page);
await fetch(`${base}${approve[1]}`, { method: "POST" });
const held = await call("alipay.fund.auth.operation.detail.query", {
  out_order_no: "SDK2",
  out_request_no: "SDK2f",
  operation_type: "FREEZE",
});
assert.equal(held.orderStatus, "AUTHORIZED");
const release = { auth_no: held.authNo, out_request_no: "SDK2u", amount: "10.00", remark: "given up" };
assert.equal((await call("alipay.fund.auth.order.unfreeze", release)).status, "SUCCESS");
await told("fund_auth_unfreeze", "out_request_no", "SDK2u");

console.log("alipay-sdk: held, asked, taken, let go and told");
sandbox.kill();
receiver.close();
process.exit(0);
