// Shows the document, and signs what is tried: user and password of "basic" are taken as a key's id and secret, and the
// four headers of a signature are sent in their place, so that the secret itself is not. Browsers sign only on
// https:// and http://localhost pages; elsewhere the request is sent as it is.
"use strict";

(() => {
  const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const bytesOf = (text) => new TextEncoder().encode(text);

  async function sign(request) {
    const headers = request.headers || {};
    const find = (name) => Object.keys(headers).find((known) => known.toLowerCase() === name);
    const shown = find("authorization");
    const basic = shown && /^basic (.+)$/i.exec(headers[shown]);
    if (!basic || !globalThis.crypto || !crypto.subtle) return request;
    const credentials = new TextDecoder().decode(Uint8Array.from(atob(basic[1]), (character) => character.charCodeAt(0)));
    const colon = credentials.indexOf(":");
    const keyId = credentials.slice(0, colon);
    const url = new URL(request.url, document.baseURI);
    const timestamp = String(Math.floor(Date.now() / 1000));
    const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
    const body = typeof request.body === "string" ? request.body : "";
    const idempotencyKey = headers[find("idempotency-key")] || "";
    const lines = ["v1", keyId, timestamp, nonce, (request.method || "GET").toUpperCase(), url.pathname + url.search,
      idempotencyKey, hex(await crypto.subtle.digest("SHA-256", bytesOf(body)))];
    const key = await crypto.subtle.importKey("raw", bytesOf(credentials.slice(colon + 1)),
      { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const signature = hex(await crypto.subtle.sign("HMAC", key, bytesOf(lines.join("\n"))));
    delete headers[shown];
    Object.assign(headers, { "X-Api-Key": keyId, "X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": `v1=${signature}` });
    request.headers = headers;
    return request;
  }

  SwaggerUIBundle({
    url: new URL(document.getElementById("api").dataset.document, document.baseURI).href,
    dom_id: "#api",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    filter: true,
    validatorUrl: null,
    requestInterceptor: sign,
  });
})();
