// A showroom: rooms to walk through, things to look at, touch and try.  What happens there is said as any device says it.
import { Device } from "../kiosk/device.js";
import { known, model, shape } from "./models.js";

const WORDS = {
  en: { vr: "Enter VR", leave: "Leave", try: "Try it", wish: "Wish list", wished: "On your wish list", redeem: "Take it for points", gained: "+{n} points", offline: "It counts when the network is back.",
    refused: "Not possible now.", again: "You know this one already.", code: "Type the code of your phone", go: "Walk in", pair: "Approve these letters and this number on another device", guide: "Guide", attend: "I am here", close: "Close", keys: "Arrow keys or W A S D to walk, drag to look around." },
  zh: { vr: "进入 VR", leave: "离开", try: "试用", wish: "加入心愿单", wished: "已在心愿单", redeem: "用积分兑换", gained: "+{n} 积分", offline: "网络恢复后计入。",
    refused: "暂时无法进行。", again: "您已看过这件展品。", code: "请输入手机上的识别码", go: "进入展厅", pair: "请在另一台设备上批准以下配对码和数字", guide: "导览台", attend: "我来参加", close: "关闭", keys: "方向键或 W A S D 行走，拖动环顾。" },
};
const language = navigator.language.startsWith("zh") ? "zh" : "en";
const say = (name, values = {}) => WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
const $ = (selector) => document.querySelector(selector);
const metres = (decimetres) => decimetres / 10;
const panel = $("#panel"), dialog = $("#dialog");
let device, session, showroom, room, scene, rig, world, found = new Set();

function el(tag, options = {}, ...children) {
  const { on, ...more } = options;
  const node = Object.assign(document.createElement(tag), more);
  if (on) node.addEventListener(tag === "form" ? "submit" : "click", (event) => (event.preventDefault(), on(event)));
  node.append(...children.filter(Boolean));
  return node;
}

// Words on a canvas: no font is asked of anybody.
function sign(text, { width = 1.6, height = 0.36, ink = "#fbf7ee", paper = "#12382f", size = 64 } = {}) {
  const canvas = el("canvas", { width: 1024, height: Math.round((1024 * height) / width) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = paper;
  pen.beginPath();
  pen.roundRect(0, 0, canvas.width, canvas.height, 60);
  pen.fill();
  pen.fillStyle = ink;
  pen.font = `700 ${size}px Inter, "Noto Sans SC", sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const lines = text.split("\n");
  lines.forEach((line, n) => pen.fillText(line, 512, canvas.height / 2 + (n - (lines.length - 1) / 2) * size * 1.25, 940));
  const node = shape("a-plane", { width, height, material: "shader: flat; transparent: true" });
  node.addEventListener("loaded", () => {
    const texture = new THREE.CanvasTexture(canvas);
    texture.colorSpace = THREE.SRGBColorSpace;
    Object.assign(node.getObject3D("mesh").material, { map: texture, needsUpdate: true });
  });
  return node;
}

// --- the scene --------------------------------------------------------------------------------------------------------------

function build() {
  scene = shape("a-scene", { "vr-mode-ui": "enabled: false", "device-orientation-permission-ui": "enabled: false", renderer: "antialias: true; colorManagement: true", shadow: "type: pcfsoft", background: "color: #dfe9e2" });
  scene.setAttribute("cursor", "rayOrigin: mouse; fuse: false");
  scene.setAttribute("raycaster", "objects: .hot; far: 30");
  rig = shape("a-entity", { id: "rig" },
    shape("a-entity", { camera: "fov: 68", "look-controls": "pointerLockEnabled: false", "wasd-controls": "acceleration: 28", position: "0 1.6 0" }),
    shape("a-entity", { "laser-controls": "hand: right; model: false", raycaster: "objects: .hot; far: 12; lineColor: #f4c560; lineOpacity: 0.9" }),
    shape("a-entity", { "laser-controls": "hand: left; model: false", raycaster: "objects: .hot; far: 12; lineColor: #f4c560; lineOpacity: 0.9" }));
  world = shape("a-entity", {});
  scene.append(
    shape("a-light", { type: "hemisphere", color: "#fff7e8", "ground-color": "#a99377", intensity: 2.1 }),
    shape("a-light", { type: "directional", color: "#fff1d6", intensity: 1.5, position: "2 6 5", light: "castShadow: true; shadowMapWidth: 1024; shadowMapHeight: 1024; shadowCameraLeft: -7; shadowCameraRight: 7; shadowCameraTop: 7; shadowCameraBottom: -7" }),
    rig, world);
  $("#scene").append(scene);
  if (navigator.xr) navigator.xr.isSessionSupported("immersive-vr").then((can) => ($("#vr").hidden = !can)).catch(() => {});
  $("#vr").addEventListener("click", () => scene.enterVR());
}

function walls({ width, depth, height, wall, floor }) {
  const [w, d, h] = [metres(width), metres(depth), metres(height)];
  const side = (size, at, turn) => shape("a-plane", { width: size, height: h, position: at, rotation: turn, color: wall, roughness: 0.95, shadow: "receive: true" });
  const skirt = (size, at, turn) => shape("a-box", { width: size, height: 0.12, depth: 0.03, position: at, rotation: turn, color: "#ffffff" });
  return [
    shape("a-plane", { width: w, height: d, rotation: "-90 0 0", color: floor, roughness: 0.6, shadow: "receive: true" }),
    shape("a-plane", { width: w, height: d, rotation: "90 0 0", position: `0 ${h} 0`, material: "shader: flat; color: #f4efe6" }),
    side(w, `0 ${h / 2} ${-d / 2}`, "0 0 0"), side(w, `0 ${h / 2} ${d / 2}`, "0 180 0"), side(d, `${-w / 2} ${h / 2} 0`, "0 90 0"), side(d, `${w / 2} ${h / 2} 0`, "0 -90 0"),
    skirt(w, `0 0.06 ${-d / 2}`, "0 0 0"), skirt(w, `0 0.06 ${d / 2}`, "0 0 0"), skirt(d, `${-w / 2} 0.06 0`, "0 90 0"), skirt(d, `${w / 2} 0.06 0`, "0 90 0"),
  ];
}

function enter(name) {
  room = showroom.rooms.find((one) => one.name === name) ?? showroom.rooms[0];
  close();
  world.replaceChildren(...walls(room), ...spots(), ...doors(), ...desk());
  rig.object3D.position.set(0, 0, metres(room.depth) / 2 - 1.2);
  $("#where").textContent = room.title;
  $("#doors").replaceChildren(
    ...room.doors.map((door) => el("button", { type: "button", on: () => enter(door) }, `→ ${showroom.rooms.find((one) => one.name === door).title}`)),
    ...happenings().map((one) => el("button", { type: "button", className: "main", on: () => attend(one) }, `${one.title}: ${say("attend")}`)));
}

function spots() {
  return showroom.spots.filter((spot) => spot.room === room.name).map((spot) => {
    const [x, y, z] = spot.place.map(metres);
    const body = known(spot.model)
      ? shape("a-entity", { rotation: `0 ${spot.turn} 0` }, ...model(spot.model, spot.colour))
      : shape("a-entity", { rotation: `0 ${spot.turn} 0`, "gltf-model": `/v1/vr_kiosk/${device.showroomPass}/showroom?file=${encodeURIComponent(spot.model)}` });
    for (const part of body.children) part.classList.add("hot");
    const name = sign(spot.title, { width: 0.9, height: 0.2, size: 92 });
    name.setAttribute("position", `0 ${spot.model === "rug" ? 0.5 : tall(spot.model) + 0.28} 0`);
    name.setAttribute("class", "hot");
    const stand = y > 0.2 ? shape("a-box", { width: 0.5, depth: 0.5, height: y, position: `0 ${-y / 2} 0`, color: "#fffdf8", shadow: "cast: true; receive: true" }) : null;
    const node = shape("a-entity", { position: `${x} ${y} ${z}`, id: `spot-${spot.name}` }, body, name, ...(stand ? [stand] : []));
    node.addEventListener("click", () => touch(spot));
    node.addEventListener("mouseenter", () => body.object3D.scale.setScalar(1.06));
    node.addEventListener("mouseleave", () => body.object3D.scale.setScalar(1));
    return node;
  });
}

const tall = (name) => ({ lamp: 1.65, shelf: 1.75, armchair: 1.0, chair: 0.97, table: 0.8, stool: 0.55, plant: 0.95, vase: 0.95, clock: 0.56, radio: 0.7 })[name] ?? 0.4;

function doors() {
  return room.doors.map((name, n) => {
    const x = (n - (room.doors.length - 1) / 2) * 2.2, z = -metres(room.depth) / 2 + 0.03;
    const title = showroom.rooms.find((one) => one.name === name).title;
    const label = sign(`→ ${title}`, { width: 1.3, height: 0.26, size: 84 });
    label.setAttribute("position", "0 2.35 0.05");
    label.setAttribute("class", "hot");
    const node = shape("a-entity", { position: `${x} 0 ${z}` },
      shape("a-box", { class: "hot", width: 1.16, height: 2.16, depth: 0.04, position: "0 1.08 0", color: "#fffdf8" }),
      shape("a-box", { class: "hot", width: 1, height: 2.05, depth: 0.06, position: "0 1.03 0", color: "#1d6b58" }),
      shape("a-sphere", { class: "hot", radius: 0.04, position: "0.4 1 0.06", color: "#d9a441" }), label);
    node.addEventListener("click", () => enter(name));
    return node;
  });
}

function desk() {
  if (!showroom.guide || room !== showroom.rooms[0]) return [];
  const label = sign(say("guide"), { width: 0.8, height: 0.2, size: 96, paper: "#f4c560", ink: "#2c2100" });
  label.setAttribute("position", "0 1.35 0.1");
  label.setAttribute("class", "hot");
  const node = shape("a-entity", { position: `${metres(room.width) / 2 - 0.9} 0 ${metres(room.depth) / 2 - 1.6}`, rotation: "0 -60 0" },
    shape("a-box", { class: "hot", width: 1.1, height: 1.05, depth: 0.5, position: "0 0.52 0", color: "#1d6b58" }),
    shape("a-box", { class: "hot", width: 1.2, height: 0.05, depth: 0.6, position: "0 1.07 0", color: "#8a5a36" }), label);
  node.addEventListener("click", () => open(say("guide"), `${showroom.guide}\n${say("keys")}`));
  return [node];
}

// --- what visitors do ----------------------------------------------------------------------------------------------------------

async function event(type, facts) {
  const answer = await device.say("event", { session, type, facts: { showroom: showroom.name, ...facts } });
  if (answer === null) return say("offline");
  if (answer.status !== "done") return say("refused");
  const gained = Object.values(answer.said.gained ?? {}).reduce((sum, n) => sum + n, 0);
  return gained > 0 ? say("gained", { n: gained }) : "";
}

async function touch(spot) {
  const told = open(spot.title, spot.text, spot);
  const said = await event("vr_kiosk.touched", { spot: spot.name, action: "touched" });
  found.add(spot.name);
  tell(told, said);
  tasks();
}

function open(title, text, spot) {
  const said = el("p", { className: "said" });
  const act = (name, type, facts, main) => el("button", { type: "button", className: main ? "main" : "", on: async () => tell(said, await event(type, facts) || say(name === "wish" ? "wished" : "try")) }, say(name));
  panel.replaceChildren(el("h2", {}, title), ...String(text ?? "").split("\n").filter(Boolean).map((line) => el("p", {}, line)), said,
    el("div", { className: "row" },
      spot?.product && act("try", "vr_kiosk.touched", { spot: spot.name, action: "tried" }, true),
      spot?.product && act("wish", "vr_kiosk.wished", { product: spot.name }),
      spot?.reward && el("button", { type: "button", on: () => redeem(spot, said) }, say("redeem")),
      el("button", { type: "button", on: close }, say("close"))));
  panel.hidden = false;
  if (scene.is("vr-mode")) floating(title, text);
  return said;
}

function tell(place, text) {
  place.textContent = text;
  if (text && scene.is("vr-mode")) floating(panel.querySelector("h2").textContent, text);
}

// In the headset there is no page: the same words hang in the room.
function floating(title, text) {
  document.querySelector("#floating")?.remove();
  const camera = scene.camera, ahead = new THREE.Vector3(0, -0.15, -1.4).applyQuaternion(camera.getWorldQuaternion(new THREE.Quaternion())).add(camera.getWorldPosition(new THREE.Vector3()));
  const node = sign(`${title}\n${String(text ?? "").slice(0, 60)}`, { width: 1.2, height: 0.42, size: 72 });
  node.id = "floating";
  node.addEventListener("loaded", () => {
    node.object3D.position.copy(ahead);
    node.object3D.lookAt(camera.getWorldPosition(new THREE.Vector3()));
  });
  scene.append(node);
  setTimeout(() => node.remove(), 4000);
}

function close() {
  panel.hidden = true;
}

async function redeem(spot, said) {
  const answer = await device.say("redeem", { session, reward: spot.reward });
  tell(said, answer === null ? say("offline") : answer.status === "done" ? "✓" : say("refused"));
}

async function attend(happening) {
  const said = open(happening.title, "");
  tell(said, (await event("vr_kiosk.attended", { happening: happening.name })) || "✓");
}

const happenings = () => showroom.happenings.filter((one) => one.room === room.name && Date.parse(one.since) <= Date.now() && Date.now() < Date.parse(one.until));

function tasks() {
  $("#tasks").replaceChildren(...showroom.tasks.map((task) => {
    const n = Math.min(task.count, showroom.spots.filter((spot) => found.has(spot.name) && spot.labels.includes(task.label)).length);
    return el("li", { className: n >= task.count ? "done" : "" }, `${task.title} ${n}/${task.count}`);
  }));
}

// --- coming and going -------------------------------------------------------------------------------------------------------------

async function pair() {
  for await (const { letters, number } of device.pair()) {
    dialog.replaceChildren(el("p", {}, say("pair")), el("p", { className: "letters" }, letters), el("p", {}, number));
    if (!dialog.open) dialog.showModal();
  }
  dialog.close();
}

function identify() {
  return new Promise((done) => {
    const code = el("input", { autocomplete: "off", maxLength: 80, required: true });
    const wrong = el("p", { role: "alert" });
    dialog.replaceChildren(el("form", { on: async () => {
      const answer = await device.say("identify", { code: code.value.trim() });
      if (answer?.status !== "done") return (wrong.textContent = say("refused"));
      dialog.close();
      done(answer.said.session);
    } }, el("label", {}, say("code"), code), wrong, el("button", { className: "main" }, say("go"))));
    if (!dialog.open) dialog.showModal();
  });
}

function leave() {
  sessionStorage.removeItem("session");
  device.say("end", { session });
  location.assign("../kiosk/");
}

async function begin() {
  document.documentElement.lang = language;
  $("#vr").textContent = say("vr");
  $("#leave").textContent = say("leave");
  $("#leave").addEventListener("click", leave);
  if (location.hash.length > 1) localStorage.setItem("pass", location.hash.slice(1));
  const name = new URLSearchParams(location.search).get("name") ?? "";
  history.replaceState(null, "", location.pathname + location.search);
  device = await Device.open(localStorage.getItem("pass") ?? "", "room 1.0");
  if (!device.paired) await pair();
  const answer = await fetch(`/v1/vr_kiosk/${device.showroomPass}/showroom?name=${encodeURIComponent(name)}&language=${language}`);
  showroom = await answer.json();
  $("#title").textContent = document.title = showroom.title;
  build();
  device.stayInTouch();
  setInterval(() => device.beat(), 10000);
  await new Promise((ready) => (device.online ? ready() : device.addEventListener("network", ready, { once: true })));
  session = sessionStorage.getItem("session") ?? (await identify());
  scene.hasLoaded ? start() : scene.addEventListener("loaded", start);
}

function start() {
  enter(showroom.rooms[0].name);
  tasks();
  document.body.dataset.ready = "1";
}

begin();
