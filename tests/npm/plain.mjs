// node plain.mjs URL: what npm's ws shows of a plain WebSocket, a line each; lines of stdin are sent.
import { createInterface } from "node:readline";
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2]);
socket.on("message", (data, binary) => console.log(binary ? `${data.length} bytes` : data.toString()));
socket.on("open", () => createInterface({ input: process.stdin }).on("line", (line) => socket.send(line)));
socket.on("unexpected-response", (_, { statusCode }) => console.log(`refused ${statusCode}`));
socket.on("error", ({ message }) => console.error(message));
socket.on("close", (code, reason) => {
  console.log(`closed ${code} ${reason}`);
  process.exit(0);
});
