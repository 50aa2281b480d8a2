// One transaction over orbit.v1.json, with nothing but a browser's own WebSocket.
//
// It reconnects with backoff and goes on after its cursor, so each update comes once, in order. Its messages are numbered
// (`mid`) and sent again until there is a receipt, so each is stored once.

const LONGEST_WAIT_MS = 10_000;
const STEADY_MS = 60_000;

export class Follower {
  constructor(url, tx, { session, after = "0", ...on } = {}) {
    this.url = url;
    this.tx = tx;
    this.session = session ?? draw(); // a secret: it is what makes this client the same one again
    this.cursor = after;
    this.on = on;         // attached, update, reset, stored, rejected, lost, away, end, failed
    this.waiting = [];    // messages without a receipt, in order: {mid, data}; mid 0 until it is sent
    this.nextMid = 0;     // known once attached: the session may have been used before
    this.receipt = 0;     // the highest mid that is known to be stored
    this.failures = 0;
    this.replacedAt = -Infinity;
    this.over = false;
    this.#connect();
  }

  /** Send `data`; `on.stored(mid)` comes with the receipt. */
  send(data) {
    const message = { mid: 0, data };
    this.waiting.push(message);
    if (this.attached) this.#say(message);
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    this.socket?.close(1000);
  }

  #connect() {
    const socket = new WebSocket(this.url, "orbit.v1.json");
    this.socket = socket;
    this.attached = false;
    socket.onopen = () =>
      this.#write({ type: "attach", tx: this.tx, after: this.cursor, session: this.session });
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      for (const message of [JSON.parse(data)].flat()) {
        if (!this.over) this.#read(message);
      }
    };
    socket.onerror = () => socket.onclose({ code: 1006, reason: "" }); // some clients say no more where they can't connect
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket || this.over) return;
      this.socket = null;
      if (code >= 4400 && code < 4500) this.#fail(reason || `closed with ${code}`);
      else this.#again();
    };
  }

  #again(least_ms = 0) {
    this.attached = false;
    clearTimeout(this.retry);
    clearTimeout(this.timer);
    this.on.away?.();
    const longest = Math.min(LONGEST_WAIT_MS, 250 * 2 ** this.failures++);
    this.timer = setTimeout(() => this.#connect(), least_ms + Math.random() * longest);
  }

  #read(message) {
    if (message.type === "goaway") { // the old connection serves until the new one is there
      const old = this.socket;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => { if (old === this.socket) { this.#connect(); old.close(1000); } },
        message.reconnect_after_ms);
      return;
    }
    if (message.tx !== this.tx) return;
    if (message.cursor !== undefined && message.type !== "attached") this.cursor = message.cursor;
    switch (message.type) {
      case "attached":
        this.failures = 0;
        this.attached = true;
        this.attachedAt = Date.now();
        this.cursor = message.cursor;
        this.#stored(message.last_mid, true);
        this.on.attached?.();
        this.#sayAll();
        break;
      case "update":
        this.on.update?.(decode(message.data));
        break;
      case "reset": // what was shown so far doesn't stand any more
        this.on.reset?.(decode(message.view), message.reason);
        this.#stored(message.last_mid, true);
        this.#sayAll();
        break;
      case "receipt":
        this.#stored(message.mid, false);
        break;
      case "rejected":
        if (message.cursor !== undefined) this.#stored(message.mid, false);
        else if (!this.#passing(message.code)) this.waiting = this.waiting.filter(({ mid }) => mid !== message.mid);
        else { this.#sayLater(message.retry_after_ms); break; }
        if (message.cursor === undefined) this.#renumber(message.mid);
        this.on.rejected?.(message.message, message.code);
        break;
      case "end":
        this.close();
        this.on.end?.({ ...message, result: decode(message.result) });
        break;
      case "error":
        this.#error(message);
        break;
    }
  }

  #error({ op, code, message, retry_after_ms }) {
    if (op === "send") this.#sayLater(retry_after_ms);
    else if (code === "replaced") { // once it may have been this client's own late attach
      const again = Date.now() - this.replacedAt < STEADY_MS;
      this.replacedAt = Date.now();
      if (again) this.#fail("This transaction was opened elsewhere.");
      else this.#leave(retry_after_ms);
    } else if (["unavailable", "overloaded", "rate_limited", "internal"].includes(code)) this.#leave(retry_after_ms);
    else this.#fail(message);
  }

  #leave(least_ms) {
    const old = this.socket;
    this.socket = null;
    old.close(1000);
    this.#again(least_ms);
  }

  #fail(message) {
    this.close();
    this.on.failed?.(message);
  }

  // ---- messages

  #passing(code) {
    return ["out_of_order", "unavailable", "overloaded", "rate_limited", "internal", "replaced"].includes(code);
  }

  #stored(upto, all) {
    if (all && upto < this.receipt) { // Redis lost what had a receipt: report it, don't send it again unasked
      this.on.lost?.(upto + 1, this.receipt);
      this.waiting = this.waiting.filter(({ mid }) => mid === 0);
      this.nextMid = 0;
    }
    const done = this.waiting.filter(({ mid }) => mid > 0 && mid <= upto);
    this.waiting = this.waiting.filter(({ mid }) => mid === 0 || mid > upto);
    this.receipt = all ? upto : Math.max(this.receipt, upto);
    if (all) this.nextMid = Math.max(this.nextMid, upto + 1);
    for (const { mid } of done) this.on.stored?.(mid);
  }

  #renumber(gone) {
    // Its place is free: what came after it takes it, in a new attach, so that no older copy is under way any more.
    for (const message of this.waiting) if (message.mid > gone) message.mid--;
    this.nextMid--;
    if (this.waiting.length) this.#leave(0);
  }

  #say(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    message.mid ||= this.nextMid++;
    this.#write({ type: "send", tx: this.tx, mid: message.mid, data: encode(message.data) });
  }

  #sayAll() {
    for (const message of this.waiting) this.#say(message);
  }

  #sayLater(after_ms = 500) {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => { if (this.attached) this.#sayAll(); }, after_ms);
  }

  #write(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}

function draw() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Bytes are {"$bytes": base64}; an object whose only key begins with `$` has one `$` more. Integers past 2^53 lose their last
// digits here: this example has none.

export function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  const [key, ...more] = Object.keys(value);
  if (key === "$bytes" && !more.length) return Uint8Array.from(atob(value.$bytes), (char) => char.charCodeAt(0));
  if (key?.startsWith("$") && !more.length) return { [key.slice(1)]: decode(value[key]) };
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, decode(each)]));
}

export function encode(value) {
  if (value instanceof Uint8Array) return { $bytes: btoa(String.fromCharCode(...value)) };
  if (Array.isArray(value)) return value.map(encode);
  if (value === null || typeof value !== "object") return value;
  const [key, ...more] = Object.keys(value);
  if (key?.startsWith("$") && !more.length) return { [`$${key}`]: encode(value[key]) };
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, encode(each)]));
}
