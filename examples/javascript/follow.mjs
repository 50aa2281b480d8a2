// node --experimental-websocket follow.mjs ID http://edge1 [http://edge2 ...]: prints updates; each line typed is sent.
import { createInterface } from "node:readline";
import { Follower } from "./follower.mjs";

const [id, ...urls] = process.argv.slice(2);
const follower = new Follower(urls, id, (message) => {
  if (message.type === "update") console.log(JSON.stringify(message.data));
  else if (message.type !== "advance") console.error(JSON.stringify(message));
  if (message.type === "end" || message.type === "error") process.exit(message.type === "end" ? 0 : 1);
});
createInterface({ input: process.stdin }).on("line", (line) => follower.send(line));
