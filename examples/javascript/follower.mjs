// Follows one transaction over any of several edges, with no gap and no repeat, and sends it messages, each handled once.
// For a browser, or Node with a WebSocket. JSON as it is: bytes are {"$bytes": base64}; integers past 2^53 lose digits.
const AGAIN = ["unavailable", "overloaded", "rate_limited", "out_of_order", "replaced", "internal"];

export class Follower {
  // on(message): every update, reset, advance, rejected, end and error; {type: "lost"}: messages whose fate is unknown.
  constructor(urls, tx, on, { session = crypto.randomUUID(), after = "0", token } = {}) {
    Object.assign(this, { urls, tx, on, session, cursor: after, token });
    Object.assign(this, { queue: [], lastMid: 0, tries: 0, replaced: 0, edge: Math.floor(Math.random() * urls.length) });
    this.connect();
  }
  send(data) {
    this.queue.push(data);
    this.next();
  }
  close() {
    this.closed = true;
    this.ws.close();
  }
  connect() {
    if (this.closed) return;
    this.ws = new WebSocket(this.urls[this.edge++ % this.urls.length].replace(/^http/, "ws") + "/v1/ws", ["orbit.v1.json"]);
    this.ws.onopen = () => this.attach();
    this.ws.onmessage = ({ data }) => [JSON.parse(data)].flat().forEach((m) => m.tx && m.tx !== this.tx || this.hear(m));
    this.ws.onclose = ({ code }) => {
      this.attached = this.flying = false;
      if (code >= 4400 && code < 4500) this.fail({ type: "error", code: `closed with ${code}` });
      else this.later(() => this.connect());
    };
  }
  attach() {
    this.attached = this.flying = false;
    this.say({ type: "attach", after: this.cursor, session: this.session, token: this.token });
  }
  say(message) {
    if (this.ws.readyState === 1) this.ws.send(JSON.stringify({ tx: this.tx, ...message }));
  }
  later(what, atLeastMs = 0) { // exponential backoff with full jitter
    setTimeout(what, atLeastMs + Math.random() * Math.min(10000, 100 * 2 ** this.tries++));
  }
  fail(message) {
    this.close();
    this.on(message);
  }
  next() { // one message is under way at a time: so the order is kept whatever is refused
    if (!this.attached || this.flying || !this.queue.length || this.ws.readyState !== 1) return;
    this.flying = this.tried = true;
    this.say({ type: "send", mid: this.lastMid + 1, data: this.queue[0] });
  }
  answered(stored) { // the message under way is stored, or never will be
    if (stored) this.lastMid += 1;
    this.done();
    this.next();
  }
  done() {
    this.queue.shift();
    this.flying = this.tried = false;
    this.tries = 0;
  }
  stored(lastMid) { // what the deployment holds, told at an attach and a reset. A session may have been used before
    const lost = lastMid < this.lastMid;
    if (this.tried && lastMid !== this.lastMid) this.done();
    this.lastMid = lastMid;
    if (lost) this.on({ type: "lost" });
    this.next();
  }
  hear(m) {
    if (m.cursor && (this.attached || m.type === "attached")) this.cursor = m.cursor;
    if (m.type === "attached") {
      this.attached = true;
      this.attachedAt = Date.now();
      this.tries = 0;
      this.stored(m.last_mid);
    } else if (m.type === "receipt") {
      if (this.flying && m.mid === this.lastMid + 1) this.answered(true);
    } else if (m.type === "rejected") {
      const mine = this.tried && m.mid === this.lastMid + 1;
      if (!m.cursor && AGAIN.includes(m.code)) this.again(m);
      else if (mine) this.answered(Boolean(m.cursor));
      if (m.cursor || !AGAIN.includes(m.code)) this.on(m);
    } else if (m.type === "error" && m.op === "send") {
      this.again(m);
    } else if (m.type === "error") {
      const steady = Date.now() - this.attachedAt > 60000;
      const replacedAgain = m.code === "replaced" && this.replaced++ && !steady;
      if (AGAIN.includes(m.code) && !replacedAgain) this.later(() => this.attach(), m.retry_after_ms);
      else this.fail(m);
    } else if (m.type === "goaway") {
      setTimeout((ws) => ws.close(), m.reconnect_after_ms, this.ws);
    } else if (this.attached) {
      if (m.type === "reset") this.stored(m.last_mid);
      if (m.type === "end") this.closed = true;
      this.on(m);
      if (m.type === "end") this.ws.close();
    }
  }
  again(m) {
    this.later(() => { this.flying = false; this.next(); }, m.retry_after_ms);
  }
}
