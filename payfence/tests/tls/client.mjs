// Node's TLS against the gateway: requests on one connection and on many, a large body both ways.
// Use: client.mjs PORT CA VERSION

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";

const [port, file, version] = process.argv.slice(2);
const tls = {
  ca: readFileSync(file),
  host: "127.0.0.1",
  port,
  servername: "shop.test",
  minVersion: `TLSv${version}`,
  maxVersion: `TLSv${version}`,
};

function ask(agent, method, body) {
  return new Promise((resolve, reject) => {
    const headers = { Host: "shop.test", ...(body && { "Content-Length": body.length }) };
    const request = https.request({ ...tls, agent, method, path: "/x", headers }, (answer) => {
      const spoken = answer.socket.getProtocol();
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => {
        const whole = Buffer.concat(pieces);
        if (answer.statusCode !== 200) reject(new Error(`${answer.statusCode}: ${whole}`));
        else if (spoken !== `TLSv${version}`) reject(new Error(`${spoken} was spoken`));
        else resolve(whole);
      });
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

const kept = new https.Agent({ keepAlive: true, maxSockets: 1 });
for (let count = 0; count < 50; count += 1) {
  if ((await ask(kept, "GET")).toString() !== "ok") throw new Error("another body");
}
const body = randomBytes(5_000_000);
if (!(await ask(kept, "POST", body)).equals(body)) throw new Error("the body came back changed");
const many = new https.Agent({ maxCachedSessions: 100 });
await Promise.all(Array.from({ length: 50 }, () => ask(many, "GET")));
kept.destroy();
