// Drives the page's own follower.js outside a browser: `node frameworks.mjs FOLLOWER SOCKET TX`. One line of JSON per event.
// Once it was away and is attached again, it says what the State refuses, and then "OK".
import { createHash } from "node:crypto";

const [, , module, socket, tx] = process.argv;
const { Follower } = await import(module);
const say = (what) => console.log(JSON.stringify(what));
let attached = 0;

const follower = new Follower(socket, tx, {
  attached: () => {
    say({ attached: ++attached });
    if (attached === 2) {
      follower.send({ $bytes: "not bytes" });
      follower.send("OK");
    }
  },
  update: ({ says, image }) =>
    say({ says, kind: image?.kind, sha256: image && createHash("sha256").update(image.bytes).digest("hex") }),
  stored: (mid) => say({ stored: mid }),
  rejected: (message) => say({ rejected: message }),
  end: ({ status, result, error }) => say({ end: status, result, error }),
  failed: (message) => say({ failed: message }),
});
