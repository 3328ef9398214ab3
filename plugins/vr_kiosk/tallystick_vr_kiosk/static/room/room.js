// A showroom: rooms to walk through, things to look at, touch and try.  What happens there is said as any device says it.
import { Device } from "../kiosk/device.js";
import { known, model, shape } from "./models.js";
import { WORDS } from "./words.js";

const asked = new URLSearchParams(location.search);
const language = (asked.get("language") ?? navigator.language).startsWith("zh") ? "zh" : "en";
const say = (name, values = {}) => WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
const $ = (selector) => document.querySelector(selector);
const metres = (decimetres) => decimetres / 10;
const panel = $("#panel"), dialog = $("#dialog"), FONT = 'Inter, "Segoe UI", "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", sans-serif';
let device, visit, showroom, room, scene, rig, world, board, shown = null, found = new Set(), last = performance.now(), head = "";
const flat = !document.createElement("canvas").getContext("webgl2"); // without WebGL there is the list of things

function el(tag, options = {}, ...children) {
  const { on, ...more } = options;
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(more)) name in node ? (node[name] = value) : node.setAttribute(name, value);
  if (on) node.addEventListener(tag === "form" ? "submit" : "click", (event) => (event.preventDefault(), on(event)));
  node.append(...children.filter(Boolean));
  return node;
}

// --- words in the room ------------------------------------------------------------------------------------------------------

function wrapped(pen, text, width) {
  const lines = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.match(/[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+\s*|\s+/g) ?? []) {
      if (line && pen.measureText(line + word.trimEnd()).width > width) lines.push(line.trimEnd()), (line = "");
      line += word;
    }
    lines.push(line.trimEnd());
  }
  return lines;
}

// Words on a canvas: no font is asked of anybody.  Lengths in metres, letters too.
function sign(text, { width = 1.6, height = 0.36, letter = 0.09, ink = "#fbf7ee", paper = "#12382f", round = 0.09, left = false, weight = 700 } = {}) {
  const scale = 1024 / Math.max(width, height);
  const canvas = el("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const pen = canvas.getContext("2d");
  if (paper) {
    pen.fillStyle = paper;
    pen.beginPath();
    pen.roundRect(0, 0, canvas.width, canvas.height, round * scale);
    pen.fill();
  }
  pen.fillStyle = ink;
  pen.font = `${weight} ${Math.round(letter * scale)}px ${FONT}`;
  pen.textAlign = left ? "left" : "center";
  pen.textBaseline = "middle";
  const margin = Math.min(0.08, width / 12) * scale, lines = wrapped(pen, text, canvas.width - 2 * margin);
  lines.forEach((line, n) => pen.fillText(line, left ? margin : canvas.width / 2, canvas.height / 2 + (n - (lines.length - 1) / 2) * letter * scale * 1.3, canvas.width - 2 * margin));
  const node = shape("a-plane", { width, height, material: "shader: flat; transparent: true" });
  node.addEventListener("loaded", () => {
    const texture = new THREE.CanvasTexture(canvas);
    texture.colorSpace = THREE.SRGBColorSpace;
    texture.anisotropy = 4;
    Object.assign(node.getObject3D("mesh").material, { map: texture, needsUpdate: true });
  });
  return node;
}

// --- the scene --------------------------------------------------------------------------------------------------------------

function build() {
  scene = shape("a-scene", { "xr-mode-ui": "enabled: false", "device-orientation-permission-ui": "enabled: false", renderer: "antialias: true; colorManagement: true", shadow: "type: pcf", background: "color: #dfe9e2", "keyboard-shortcuts": "enterVR: false" });
  scene.setAttribute("cursor", "rayOrigin: mouse; fuse: false");
  scene.setAttribute("raycaster", "objects: .hot; far: 30");
  const hand = (side) => shape("a-entity", { id: `${side}-hand`, "laser-controls": `hand: ${side}; model: false`, raycaster: "objects: .hot; far: 12; lineColor: #f4c560; lineOpacity: 0.9" });
  AFRAME.registerComponent("held-by-walls", { tick: look });
  rig = shape("a-entity", { id: "rig", "held-by-walls": "" },
    shape("a-entity", { id: "eyes", camera: "fov: 68", "look-controls": "pointerLockEnabled: false", "wasd-controls": "acceleration: 28", position: "0 1.6 0" }),
    hand("right"), hand("left"));
  world = shape("a-entity", {});
  scene.append(
    shape("a-light", { type: "hemisphere", color: "#fff7e8", "ground-color": "#a99377", intensity: 2.1 }),
    shape("a-light", { type: "directional", color: "#fff1d6", intensity: 1.5, position: "2 6 5", light: "castShadow: true; shadowMapWidth: 1024; shadowMapHeight: 1024; shadowCameraLeft: -7; shadowCameraRight: 7; shadowCameraTop: 7; shadowCameraBottom: -7" }),
    rig, world);
  $("#scene").append(scene);
  if (navigator.xr) navigator.xr.isSessionSupported("immersive-vr").then((can) => ($("#vr").hidden = !can)).catch(() => {});
  $("#vr").addEventListener("click", () => scene.enterVR());
  scene.addEventListener("enter-vr", () => hang());
  scene.addEventListener("exit-vr", () => hang());
  for (const what of ["triggerdown", "selectstart", "abuttondown", "gripdown"]) scene.addEventListener(what, here);
}

function walls({ width, depth, height, wall, floor }) {
  const [w, d, h] = [metres(width), metres(depth), metres(height)];
  const side = (size, at, turn) => shape("a-plane", { width: size, height: h, position: at, rotation: turn, color: wall, roughness: 0.95, shadow: "receive: true" });
  const skirt = (size, at, turn) => shape("a-box", { width: size, height: 0.12, depth: 0.03, position: at, rotation: turn, color: "#ffffff" });
  const ground = shape("a-plane", { id: "floor", class: "hot", width: w, height: d, rotation: "-90 0 0", color: floor, roughness: 0.6, shadow: "receive: true" });
  ground.addEventListener("click", ({ detail }) => dragged || walk(detail.intersection?.point));
  return [
    ground,
    shape("a-plane", { width: w, height: d, rotation: "90 0 0", position: `0 ${h} 0`, material: "shader: flat; color: #f4efe6" }),
    side(w, `0 ${h / 2} ${-d / 2}`, "0 0 0"), side(w, `0 ${h / 2} ${d / 2}`, "0 180 0"), side(d, `${-w / 2} ${h / 2} 0`, "0 90 0"), side(d, `${w / 2} ${h / 2} 0`, "0 -90 0"),
    skirt(w, `0 0.06 ${-d / 2}`, "0 0 0"), skirt(w, `0 0.06 ${d / 2}`, "0 0 0"), skirt(d, `${-w / 2} 0.06 0`, "0 90 0"), skirt(d, `${w / 2} 0.06 0`, "0 90 0"),
  ];
}

// Where somebody may stand: not nearer to a wall than an arm.
function inside({ x, z }) {
  const [w, d] = [metres(room.width) / 2 - 0.45, metres(room.depth) / 2 - 0.45];
  return { x: Math.max(-w, Math.min(w, x)), z: Math.max(-d, Math.min(d, z)) };
}

// Walk to a place on the floor; at once for who would rather not see the room move, and in a headset.
function walk(point, { facing } = {}) {
  if (!point) return;
  const eyes = $("#eyes"), to = inside(point), from = rig.object3D.position.clone();
  if (facing !== undefined && eyes.components["look-controls"]) {
    eyes.components["look-controls"].yawObject.rotation.y = facing;
    eyes.components["look-controls"].pitchObject.rotation.x = -0.12;
  }
  to.x -= eyes.object3D.position.x;
  to.z -= eyes.object3D.position.z;
  if (scene.is("vr-mode") || matchMedia("(prefers-reduced-motion: reduce)").matches) return rig.object3D.position.set(to.x, 0, to.z);
  const began = performance.now();
  const step = (now) => {
    const part = Math.min(1, (now - began) / 500), ease = part * part * (3 - 2 * part);
    rig.object3D.position.set(from.x + (to.x - from.x) * ease, 0, from.z + (to.z - from.z) * ease);
    if (part < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// Walls hold whoever walks by keys; and a head that moves is somebody who is there.
function look() {
  const eyes = $("#eyes")?.object3D;
  if (!eyes || !room) return;
  const at = { x: rig.object3D.position.x + eyes.position.x, z: rig.object3D.position.z + eyes.position.z }, may = inside(at);
  if (!scene.is("vr-mode")) {
    eyes.position.x += may.x - at.x;
    eyes.position.z += may.z - at.z;
    return;
  }
  const seen = [eyes.position, eyes.quaternion].flatMap((one) => one.toArray().map((n) => n.toFixed(2))).join();
  if (seen !== head) here();
  head = seen;
}

function enter(name) {
  room = showroom.rooms.find((one) => one.name === name) ?? showroom.rooms[0];
  close();
  $("#where").textContent = room.title;
  if (!flat) {
    world.replaceChildren(...walls(room), ...spots(), ...doors(), ...desk());
    rig.object3D.position.set(0, 0, metres(room.depth) / 2 - 1.2);
    $("#eyes").object3D.position.set(0, 1.6, 0);
  }
  posters = "";
  announce();
  things();
}

const titleOf = (name) => showroom.rooms.find((one) => one.name === name).title;

function spots() {
  return showroom.spots.filter((spot) => spot.room === room.name).map((spot) => {
    const [x, y, z] = spot.place.map(metres);
    const body = known(spot.model)
      ? shape("a-entity", { rotation: `0 ${spot.turn} 0` }, ...model(spot.model, spot.colour))
      : shape("a-entity", { class: "hot", rotation: `0 ${spot.turn} 0`, shadow: "cast: true", "gltf-model": `/v1/vr_kiosk/${device.showroomPass}/showroom?file=${encodeURIComponent(spot.model)}` });
    for (const part of body.children) part.classList.add("hot");
    const name = sign(visit.wishes.has(spot.name) ? `${spot.title} ♥` : spot.title, { width: 0.9, height: 0.2, letter: 0.085, round: 0.1 });
    name.setAttribute("position", `0 ${spot.model === "rug" ? 0.5 : tall(spot.model) + 0.28} 0`);
    name.setAttribute("class", "hot");
    const stand = y > 0.2 ? shape("a-box", { width: 0.5, depth: 0.5, height: y, position: `0 ${-y / 2} 0`, color: "#fffdf8", shadow: "cast: true; receive: true" }) : null;
    const node = shape("a-entity", { position: `${x} ${y} ${z}`, id: `spot-${spot.name}` }, body, name, ...(stand ? [stand] : []));
    // a model of the merchant's own says how tall it is when it is here
    body.addEventListener("model-loaded", () => {
      const size = new THREE.Box3().setFromObject(body.getObject3D("mesh"));
      name.object3D.position.y = size.max.y - node.object3D.getWorldPosition(new THREE.Vector3()).y + 0.28;
      body.dataset.loaded = "1";
    });
    node.addEventListener("click", () => dragged || touch(spot));
    node.addEventListener("mouseenter", () => body.object3D.scale.setScalar(1.06));
    node.addEventListener("mouseleave", () => body.object3D.scale.setScalar(1));
    return node;
  });
}

const tall = (name) => ({ lamp: 1.65, shelf: 1.75, armchair: 1.0, chair: 0.97, table: 0.8, stool: 0.55, plant: 0.95, vase: 0.95, clock: 0.56, radio: 0.7 })[name] ?? 0.4;

function doors() {
  return room.doors.map((name, n) => {
    const x = (n - (room.doors.length - 1) / 2) * 2.2, z = -metres(room.depth) / 2 + 0.03;
    const label = sign(`→ ${titleOf(name)}`, { width: 1.3, height: 0.26, letter: 0.1, round: 0.13 });
    label.setAttribute("position", "0 2.35 0.05");
    label.setAttribute("class", "hot");
    const node = shape("a-entity", { position: `${x} 0 ${z}`, id: `door-${name}` },
      shape("a-box", { class: "hot", width: 1.16, height: 2.16, depth: 0.04, position: "0 1.08 0", color: "#fffdf8" }),
      shape("a-box", { class: "hot", width: 1, height: 2.05, depth: 0.06, position: "0 1.03 0", color: "#1d6b58" }),
      shape("a-sphere", { class: "hot", radius: 0.04, position: "0.4 1 0.06", color: "#d9a441" }), label);
    node.addEventListener("click", () => dragged || enter(name));
    return node;
  });
}

function desk() {
  if (!showroom.guide || room !== showroom.rooms[0]) return [];
  const label = sign(say("guide"), { width: 0.8, height: 0.2, letter: 0.1, paper: "#f4c560", ink: "#2c2100", round: 0.1 });
  label.setAttribute("position", "0 1.35 0.1");
  label.setAttribute("class", "hot");
  const node = shape("a-entity", { id: "guide", position: `${metres(room.width) / 2 - 0.9} 0 ${metres(room.depth) / 2 - 1.6}`, rotation: "0 -60 0" },
    shape("a-box", { class: "hot", width: 1.1, height: 1.05, depth: 0.5, position: "0 0.52 0", color: "#1d6b58" }),
    shape("a-box", { class: "hot", width: 1.2, height: 0.05, depth: 0.6, position: "0 1.07 0", color: "#8a5a36" }), label);
  node.addEventListener("click", () => dragged || guide());
  return [node];
}

const guide = () => present({ title: say("guide"), lines: [showroom.guide, ...showroom.tasks.map((task) => `· ${task.title}`), say("keys")] });

// --- virtual events: a poster in the room, a button on the screen, both only while it is time ---------------------------------

let posters = "";
const clock = (time) => new Date(time).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
const begun = (one) => Date.parse(one.since) <= Date.now();
const upcoming = () => showroom.happenings.filter((one) => one.room === room.name && Date.now() < Date.parse(one.until));

function announce() {
  const now = upcoming(), state = now.map((one) => one.name + begun(one)).join();
  if (state === posters && posters !== "") return;
  if (state === posters && now.length === 0 && $("#doors").dataset.room === room.name) return;
  posters = state;
  $("#doors").dataset.room = room.name;
  $("#doors").replaceChildren(
    ...room.doors.map((door) => el("button", { type: "button", on: () => enter(door) }, `→ ${titleOf(door)}`)),
    ...(showroom.guide && room === showroom.rooms[0] ? [el("button", { type: "button", on: guide }, say("guide"))] : []),
    ...now.map((one) => el("button", { type: "button", className: begun(one) ? "main" : "", on: () => invite(one) }, one.title)));
  if (flat) return;
  for (const old of world.querySelectorAll(".poster")) old.remove();
  world.append(...now.map((one, n) => {
    const node = sign(`${one.title}\n${when(one)}`, { width: 1.5, height: 0.95, letter: 0.13, paper: begun(one) ? "#f4c560" : "#fffdf8", ink: "#2c2100", round: 0.06 });
    node.id = `poster-${one.name}`;
    node.setAttribute("class", "hot poster");
    node.setAttribute("position", `${-metres(room.width) / 2 + 0.04} 1.75 ${-metres(room.depth) / 2 + 1.6 + n * 1.8}`);
    node.setAttribute("rotation", "0 90 0");
    node.addEventListener("click", () => dragged || invite(one));
    return node;
  }));
}

const when = (one) => (begun(one) ? say("now", { until: clock(one.until) }) : say("later", { since: clock(one.since) }));

function invite(one) {
  present({ title: one.title, lines: [when(one)], acts: begun(one) ? [{ name: "attend", text: say("attend"), main: true, run: () => attend(one) }] : [] });
}

async function attend(one) {
  const answer = await event("vr_kiosk.attended", { happening: one.name });
  told(answer === null ? say("offline") : answer.status === "done" ? gained(answer) || say("thanks") : say("guests"));
}

// --- what visitors do ----------------------------------------------------------------------------------------------------------

const event = (type, facts) => device.say("event", { session: visit.session, type, facts: { showroom: showroom.name, ...facts } });

// What the last thing brought, a finished task included: the difference of what can be spent.
function gained(answer) {
  if (answer?.status !== "done") return "";
  const before = visit.usable ?? answer.said.usable - Object.values(answer.said.gained ?? {}).reduce((sum, n) => sum + n, 0);
  has(answer.said.usable);
  return answer.said.usable > before ? say("gained", { n: answer.said.usable - before }) : "";
}

function has(usable) {
  visit.usable = usable;
  $("#purse").hidden = usable === undefined || usable === null;
  $("#purse").textContent = say("points", { n: new Intl.NumberFormat(language).format(usable ?? 0) });
}

async function touch(spot) {
  present({ title: spot.title, lines: [spot.text], acts: offers(spot), spot });
  const answer = await event("vr_kiosk.touched", { spot: spot.name, action: "touched" });
  const before = new Set(done());
  found.add(spot.name);
  tasks();
  const finished = done().filter((task) => !before.has(task)).map((task) => say("done", { task: task.title }));
  told([answer === null ? say("offline") : answer.status === "done" ? gained(answer) : refusal(answer), ...finished].filter(Boolean).join(" · "), spot);
}

function offers(spot) {
  const reward = spot.reward && device.settings.rewards.find((one) => one.name === spot.reward);
  return [
    spot.product && { name: "try", text: say("try"), main: true, run: () => attempt(spot) },
    spot.product && (visit.wishes.has(spot.name) ? { name: "wish", text: `♥ ${say("wished")}`, run: () => {} } : { name: "wish", text: say("wish"), run: () => wish(spot) }),
    reward && { name: "redeem", text: say("redeem", { n: reward.points }), run: () => confirm(spot, reward) },
  ].filter(Boolean);
}

async function attempt(spot) {
  const answer = await event("vr_kiosk.touched", { spot: spot.name, action: "tried" });
  told(answer === null ? say("offline") : answer.status === "done" ? gained(answer) || say("tried") : refusal(answer), spot);
}

async function wish(spot) {
  const answer = await event("vr_kiosk.wished", { product: spot.name });
  if (answer !== null && answer.status !== "done") return told(refusal(answer), spot);
  visit.wishes.add(spot.name);
  if (shown?.spot === spot) present({ ...shown, acts: offers(spot), said: answer === null ? say("offline") : gained(answer) || say("wished") });
  things();
}

function refusal({ code }) {
  return say({ insufficient_balance: "insufficient", out_of_stock: "gone", vr_kiosk_session_ended: "ended", vr_kiosk_code_refused: "wrong", vr_kiosk_confirmation_needed: "pin" }[code] ?? "refused");
}

function confirm(spot, reward) {
  const title = reward.title[language] ?? reward.title.en ?? spot.title;
  const needed = visit.level !== "pin" && (visit.level === "card" || (visit.confirm ?? []).includes(reward.name));
  present({ title: say("confirm", { reward: title, n: reward.points }), spot, pin: needed ? "" : null, acts: [
    { name: "take", text: say("take"), main: true, run: () => redeem(spot, reward, title) },
    { name: "cancel", text: say("cancel"), run: () => present({ title: spot.title, lines: [spot.text], acts: offers(spot), spot }) },
  ] });
}

async function redeem(spot, reward, title) {
  if (!device.online) return told(say("connected"));
  const pin = shown.pin, answer = await device.say("redeem", { session: visit.session, reward: reward.name, ...(pin ? { pin } : {}) });
  if (answer?.status !== "done") {
    if (answer?.code === "vr_kiosk_confirmation_needed" && shown) return present({ ...shown, pin: "" });
    return told(answer === null ? say("connected") : refusal(answer));
  }
  if (pin) visit.level = "pin";
  has(answer.said.usable);
  present({ title: say("taken", { reward: title }), lines: [say("points", { n: answer.said.usable })], spot });
}

// --- what is told: on the screen, and in the headset, where there is no page, on a board in the room --------------------------

function present(what) {
  shown = { lines: [], acts: [], said: "", pin: null, ...what };
  shown.acts = [...shown.acts.filter((act) => act.name !== "close"), { name: "close", text: say("close"), run: close }];
  const pin = shown.pin === null ? null : el("input", { type: "password", inputMode: "numeric", autocomplete: "off", maxLength: 8, value: shown.pin });
  pin?.addEventListener("input", () => (shown.pin = pin.value));
  panel.replaceChildren(...[el("h2", {}, shown.title), ...shown.lines.flatMap((line) => String(line ?? "").split("\n")).filter(Boolean).map((line) => el("p", {}, line)),
    pin && el("label", {}, say("pin"), pin), el("p", { className: "said", role: "status" }, shown.said),
    el("div", { className: "row" }, ...shown.acts.map((act) => el("button", { type: "button", className: act.main ? "main" : "", on: act.run }, act.text)))].filter(Boolean));
  panel.hidden = false;
  hang();
}

function told(text, spot) {
  if (!shown || (spot && shown.spot !== spot)) return;
  shown.said = text;
  panel.querySelector(".said").textContent = text;
  hang();
}

function close() {
  shown = null;
  panel.hidden = true;
  hang();
}

function hang() {
  const before = board?.object3D.matrix.clone();
  const same = before && board.dataset.title === shown?.title;
  board?.remove();
  board = null;
  if (flat || !shown || !scene.is("vr-mode")) return;
  const eyes = scene.camera, at = eyes.getWorldPosition(new THREE.Vector3()), rows = [];
  const text = [shown.title, ...shown.lines.filter(Boolean), shown.said].filter(Boolean).join("\n");
  const tallness = 0.2 + 0.1 * text.split("\n").reduce((sum, line) => sum + Math.ceil(line.length / (language === "zh" ? 17 : 32)), 0);
  rows.push([sign(text, { width: 1.5, height: tallness, letter: 0.068, left: true, weight: 600, round: 0.07 }), tallness]);
  const key = (name, label, run, more = {}) => {
    const node = sign(label, { width: 0.72, height: 0.15, letter: 0.06, paper: "#fbf7ee", ink: "#1c2b27", round: 0.075, ...more });
    node.id = `act-${name}`;
    node.setAttribute("class", "hot");
    node.addEventListener("click", run);
    node.addEventListener("mouseenter", () => node.object3D.scale.setScalar(1.05));
    node.addEventListener("mouseleave", () => node.object3D.scale.setScalar(1));
    return node;
  };
  const beside = (nodes, step) => nodes.map((node, n) => (node.setAttribute("position", `${(n - (nodes.length - 1) / 2) * step} 0 0`), node));
  if (shown.pin !== null) {
    rows.push([sign("●".repeat(shown.pin.length).padEnd(4, "○"), { width: 0.8, height: 0.14, letter: 0.08, paper: "#1d6b58" }), 0.14]);
    for (const line of ["123", "456", "789", "⌫0"]) {
      const press = (digit) => (digit === "⌫" ? (shown.pin = shown.pin.slice(0, -1)) : shown.pin.length < 8 && (shown.pin += digit), present(shown));
      const keys = [...line].map((digit) => key(`key-${digit === "⌫" ? "back" : digit}`, digit, () => press(digit), { width: 0.22, letter: 0.08 }));
      rows.push([shape("a-entity", {}, ...beside(keys, 0.26)), 0.15]);
    }
  }
  const keys = shown.acts.map((act) => key(act.name, act.text, act.run, act.main ? { paper: "#f4c560", ink: "#2c2100" } : {}));
  for (let n = 0; n < keys.length; n += 2) rows.push([shape("a-entity", {}, ...beside(keys.slice(n, n + 2), 0.76)), 0.15]);
  let y = 0;
  board = shape("a-entity", { id: "board" }, ...rows.map(([node, high]) => {
    node.setAttribute("position", `0 ${y - high / 2} 0`);
    y -= high + 0.04;
    return node;
  }));
  board.dataset.title = shown.title;
  const hung = board;
  board.addEventListener("loaded", () => {
    if (same) return before.decompose(hung.object3D.position, hung.object3D.quaternion, hung.object3D.scale);
    const ahead = eyes.getWorldDirection(new THREE.Vector3()).setY(0).normalize().multiplyScalar(1.5);
    hung.object3D.position.copy(at).add(ahead).setY(Math.max(at.y - y / 2 - 0.1, 0.25 - y));
    hung.object3D.lookAt(at.x, hung.object3D.position.y, at.z);
  });
  scene.append(board);
}

const done = () => showroom.tasks.filter((task) => count(task) >= task.count);
const count = (task) => Math.min(task.count, showroom.spots.filter((spot) => found.has(spot.name) && spot.labels.includes(task.label)).length);

function tasks() {
  $("#tasks").replaceChildren(...showroom.tasks.map((task) => el("li", { className: count(task) >= task.count ? "done" : "" }, `${task.title} ${count(task)}/${task.count}`)));
}

// All things of the room as buttons: for keys, screen readers, and screens without WebGL.
function things() {
  $("#things").replaceChildren(el("h2", {}, say("list")), el("ul", {}, ...showroom.spots.filter((spot) => spot.room === room.name).map((spot) => el("li", {}, el("button", { type: "button", on: () => {
    if (!flat) walk({ x: metres(spot.place[0]), z: metres(spot.place[2]) + 1.9 }, { facing: 0 });
    touch(spot);
    panel.focus();
  } }, visit.wishes.has(spot.name) ? `${spot.title} ♥` : spot.title)))));
}

// --- coming and going -------------------------------------------------------------------------------------------------------------

async function pair() {
  for await (const { letters, number } of device.pair()) {
    dialog.replaceChildren(el("p", {}, say("pair")), el("p", { className: "letters", role: "text", "aria-label": letters.split("").join(" ") }, letters), el("p", { className: "number" }, number));
    if (!dialog.open) dialog.showModal();
  }
  dialog.close();
}

function identify() {
  return new Promise((ready) => {
    const code = el("input", { autocomplete: "off", maxLength: 80, required: true });
    const wrong = el("p", { className: "error", role: "alert" });
    dialog.replaceChildren(el("form", { on: async () => {
      const answer = await device.say("identify", { code: code.value.trim() });
      if (answer?.status !== "done") return (wrong.textContent = say("wrong"));
      dialog.close();
      const { session, level, usable, wishes, rewards, found } = answer.said;
      ready({ session, level, usable, wishes, found, confirm: rewards.filter((one) => one.confirm).map((one) => one.name) });
    } }, el("label", {}, say("code"), code), wrong, el("button", { className: "main" }, say("go"))));
    if (!dialog.open) dialog.showModal();
  });
}

async function leave() {
  const { session, from } = visit ?? {};
  visit = null;
  sessionStorage.clear();
  document.body.hidden = true; // nobody reads on while the house is told
  if (session) await Promise.race([device.say("end", { session }), new Promise((done) => setTimeout(done, 1000))]);
  from === "kiosk" ? location.replace("../kiosk/") : location.reload();
}

// Nobody is left logged in: as at the kiosk, the visit ends so long after the last touch.
function here() {
  last = performance.now();
  if (dialog.open && dialog.dataset.still) dialog.close();
}

function watch() {
  if (!visit) return;
  const left = device.settings.idle - Math.floor((performance.now() - last) / 1000);
  if (left <= 0) return leave();
  if (left > 10) return;
  if (!dialog.open) {
    dialog.dataset.still = "1";
    dialog.replaceChildren(el("h2", {}, say("still")), el("p", {}), el("button", { type: "button", className: "main", on: here }, say("stay")));
    dialog.showModal();
    if (!flat && scene.is("vr-mode")) present({ title: say("still"), acts: [{ name: "stay", text: say("stay"), main: true, run: () => (here(), close()) }] });
  }
  if (dialog.dataset.still) dialog.querySelector("p").textContent = say("stillText", { n: left });
}

// A drag to look around is no touch of what the finger happens to be on.
let dragged = false, from = null;
addEventListener("pointerdown", (event) => (here(), (from = event), (dragged = false)), true);
addEventListener("pointermove", ({ clientX, clientY }) => { if (from && Math.hypot(clientX - from.clientX, clientY - from.clientY) > 10) dragged = true; }, true);
addEventListener("pointerup", () => (from = null), true);
addEventListener("keydown", here, true);
dialog.addEventListener("close", () => delete dialog.dataset.still);

function obey({ detail: { id, command, facts } }) {
  if (command === "lock" || command === "unlock") command === "lock" ? localStorage.setItem("locked", "1") : localStorage.removeItem("locked");
  device.say("done", { command: id, done: command !== "print", ...(command === "print" ? { said: "a showroom prints nothing" } : {}) }).then(() => ["restart", "lock"].includes(command) && leave());
  if (command === "show") present({ title: String(facts.text ?? "").slice(0, 300) });
}

async function begin() {
  document.documentElement.lang = language;
  for (const name of ["vr", "leave", "list"]) $(`#${name}`).textContent = say(name);
  $("#leave").addEventListener("click", leave);
  $("#list").addEventListener("click", () => {
    $("#things").hidden = !$("#things").hidden;
    $("#list").ariaExpanded = String(!$("#things").hidden);
  });
  if (location.hash.length > 1) localStorage.setItem("pass", location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  device = await Device.open(localStorage.getItem("pass") ?? "", "room 1.1");
  if (!device.paired) await pair();
  const answer = await fetch(`/v1/vr_kiosk/${device.showroomPass}/showroom?name=${encodeURIComponent(asked.get("name") ?? "")}&language=${language}`);
  if (!answer.ok) return dialog.replaceChildren(el("p", {}, say("none"))), dialog.showModal();
  showroom = await answer.json();
  $("#title").textContent = document.title = showroom.title;
  if (!flat) build();
  device.addEventListener("command", obey);
  device.addEventListener("refused", () => {
    visit = null;
    sessionStorage.clear();
    dialog.replaceChildren(el("p", {}, say("setAside")));
    if (!dialog.open) dialog.showModal();
  });
  device.stayInTouch();
  setInterval(() => device.beat(), 10000);
  await new Promise((ready) => (device.online ? ready() : device.addEventListener("network", ready, { once: true })));
  visit = JSON.parse(sessionStorage.getItem("visit") ?? "null") ?? (await identify());
  visit.wishes = new Set(visit.wishes ?? []);
  found = new Set(visit.found?.[showroom.name] ?? []); // what this member found on earlier visits counts
  has(visit.usable);
  flat || scene.hasLoaded ? start() : scene.addEventListener("loaded", start);
}

function start() {
  if (flat) document.body.classList.add("flat");
  if (flat) $("#list").click();
  here();
  enter(showroom.rooms[0].name);
  tasks();
  setInterval(watch, 500);
  setInterval(announce, 5000);
  document.body.dataset.ready = "1";
}

begin();
