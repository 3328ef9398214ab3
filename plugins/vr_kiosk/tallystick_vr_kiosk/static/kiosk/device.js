// The device's half of the conversation with the house: keys that never leave this browser, frames that are numbered,
// chained and signed, and a queue that outlives a lost network and a restart.  See frames.py for the other half.

const NOTHING = "0".repeat(64);
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const bytes = (text) => new TextEncoder().encode(text);
const base64url = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_");
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Device extends EventTarget {
  #db;
  #me;
  #turn = Promise.resolve(); // frames are written one after the other: each names the one before
  #waiting = new Map(); // counter -> who waits for the answer
  #socket = null;
  #flushing = false;

  static async open(pairingPass, version) {
    const device = new Device();
    device.pairingPass = pairingPass;
    device.version = version;
    device.#db = await openDatabase();
    device.#me = (await device.#get("device", "me")) ?? (await device.#begin());
    return device;
  }

  get paired() { return Boolean(this.#me.device); }
  get settings() { return this.#me.settings; }
  get online() { return this.#socket?.readyState === WebSocket.OPEN; }
  get allowances() { return this.#me.allowances ?? []; }
  get showroomPass() { return this.#me.showroom; }

  async #begin() {
    const keys = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    const publicKey = hex(await crypto.subtle.exportKey("raw", keys.publicKey));
    const me = { id: "me", keys, publicKey, counter: 0, last: NOTHING, allowances: [] };
    await this.#put("device", me);
    return me;
  }

  // --- pairing ------------------------------------------------------------------------------------------------------

  async *pair() {
    while (!this.paired) {
      const { letters, number, until } = await this.#ask({ public_key: this.#me.publicKey, version: this.version });
      yield { letters, number };
      const plain = letters.replaceAll("-", "");
      const signature = base64url(await crypto.subtle.sign("Ed25519", this.#me.keys.privateKey, bytes(plain)));
      while (!this.paired && Date.now() < Date.parse(until)) {
        await wait(2000);
        let found;
        try {
          found = await this.#ask({ public_key: this.#me.publicKey, letters, signature });
        } catch {
          continue; // the network may be away for a while; the letters are good for ten minutes
        }
        if (found.state === "approved") await this.#isPaired(found);
        else if (found.state !== "waiting") break;
      }
    }
  }

  async #ask(body) {
    const answer = await fetch(`/v1/vr_kiosk/${this.pairingPass}/pair`, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  async #isPaired(found) {
    const { device, epoch, name, line, showroom, settings } = found;
    Object.assign(this.#me, { device, epoch, name, line, showroom, settings, counter: 0, last: NOTHING, allowances: [] });
    await this.#clear("queue");
    await this.#put("device", this.#me);
  }

  async forget() {
    this.#socket?.close();
    await this.#clear("queue");
    await this.#clear("device");
    location.reload();
  }

  // --- the line -------------------------------------------------------------------------------------------------------

  async stayInTouch() {
    for (let pause = 500; ; pause = Math.min(pause * 2, 15000)) {
      const closed = await this.#connect();
      if (closed.was) pause = 500;
      if (closed.code === 4404) this.#tell("refused"); // the pass opens nothing any more
      this.#tell("network");
      await wait(pause + Math.random() * 500);
    }
  }

  #connect() {
    return new Promise((done) => {
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/vr_kiosk/${this.#me.line}/line`);
      let was = false;
      socket.onopen = () => {
        was = true;
        this.#socket = socket;
        this.#tell("network");
        this.say("beat", { version: this.version, queue: this.#waiting.size });
        this.#flush();
      };
      socket.onmessage = ({ data }) => this.#answered(JSON.parse(data));
      socket.onclose = ({ code }) => {
        this.#socket = null;
        this.#flushing = false;
        done({ was, code });
      };
    });
  }

  beat() {
    if (this.online) this.say("beat", { version: this.version, queue: this.#waiting.size });
  }

  // Say something: the answer of the house, or null if it waits for the network.
  async say(kind, data = {}, { operation } = {}) {
    const offline = !this.online;
    if (offline && kind === "beat") return null;
    const { counter } = await (this.#turn = this.#turn.catch(() => {}).then(() => this.#write(kind, data, operation, offline)));
    if (offline) {
      this.#tell("network");
      return null;
    }
    const answer = new Promise((done) => this.#waiting.set(counter, done));
    this.#flush();
    return Promise.race([answer, wait(10000).then(() => null)]);
  }

  async #write(kind, data, operation, offline) {
    const me = this.#me;
    const counter = me.counter + 1;
    const text = JSON.stringify({
      device: me.device, epoch: me.epoch, counter, previous: me.last, at: new Date().toISOString(),
      operation: operation ?? crypto.randomUUID(), ...(offline ? { offline } : {}), kind, data,
    });
    const signature = base64url(await crypto.subtle.sign("Ed25519", me.keys.privateKey, bytes(text)));
    me.counter = counter;
    me.last = hex(await crypto.subtle.digest("SHA-256", bytes(text)));
    // the frame and the state that follows from it are kept together, or neither is
    await new Promise((done, failed) => {
      const change = this.#db.transaction(["device", "queue"], "readwrite", { durability: "strict" });
      change.objectStore("device").put(me);
      change.objectStore("queue").put({ counter, wire: JSON.stringify({ frame: text, signature }) });
      change.oncomplete = done;
      change.onerror = () => failed(change.error);
    });
    return { counter };
  }

  async #flush() {
    if (this.#flushing || !this.online) return;
    const head = await this.#first();
    if (!head || this.#flushing || !this.online) return;
    this.#flushing = true;
    this.#socket.send(head.wire);
  }

  async #answered(answer) {
    if (typeof answer.status !== "string") { // a problem document, whose status is a number: the frame was not taken
      this.#flushing = false;
      if (answer.code === "vr_kiosk_device_refused") this.#tell("refused");
      else setTimeout(() => this.#flush(), 2000);
      return;
    }
    if (answer.status === "quarantined") this.#tell("refused");
    if (answer.status !== "gap") await this.#remove(answer.counter);
    this.#flushing = false;
    if (answer.said?.allowances) {
      const spent = new Map(this.allowances.map((one) => [one.grant, one.spent ?? 0]));
      this.#me.allowances = answer.said.allowances.map((one) => ({ ...one, spent: spent.get(one.grant) ?? 0 }));
      await this.#put("device", this.#me);
    }
    for (const command of answer.said?.commands ?? []) this.dispatchEvent(new CustomEvent("command", { detail: command }));
    this.#waiting.get(answer.counter)?.(answer);
    this.#waiting.delete(answer.counter);
    this.#flush();
  }

  // Set points of an allowance aside for an offline reward; the allowance's name, or null if none covers it.
  async spend(points) {
    const found = this.allowances.find((one) => Date.now() < Date.parse(one.until) && one.points - one.spent >= points);
    if (!found) return null;
    found.spent += points;
    await this.#put("device", this.#me);
    return found.grant;
  }

  async queued() {
    return (await this.#all("queue")).length;
  }

  #tell(name) { this.dispatchEvent(new Event(name)); }

  // --- IndexedDB --------------------------------------------------------------------------------------------------------

  #ask1(store, mode, what) {
    return new Promise((done, failed) => {
      const request = what(this.#db.transaction(store, mode).objectStore(store));
      request.onsuccess = () => done(request.result);
      request.onerror = () => failed(request.error);
    });
  }
  #get(store, key) { return this.#ask1(store, "readonly", (rows) => rows.get(key)); }
  #put(store, row) { return this.#ask1(store, "readwrite", (rows) => rows.put(row)); }
  #all(store) { return this.#ask1(store, "readonly", (rows) => rows.getAll()); }
  #clear(store) { return this.#ask1(store, "readwrite", (rows) => rows.clear()); }
  #remove(counter) { return this.#ask1("queue", "readwrite", (rows) => rows.delete(counter)); }
  async #first() {
    const [head] = await this.#ask1("queue", "readonly", (rows) => rows.getAll(undefined, 1));
    return head;
  }
}

function openDatabase() {
  return new Promise((done, failed) => {
    const request = indexedDB.open("tallystick-device", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("device", { keyPath: "id" });
      request.result.createObjectStore("queue", { keyPath: "counter" });
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}
