// The kiosk's page: what a member sees and touches.  Nothing of a member outlives the session.
import { Device } from "./device.js";
import { PICTURES } from "./pictures.js";
import { listen, watch } from "./scan.js";
import { inLanguage, speaker } from "./words.js";

const VERSION = "1.0";
const stage = document.querySelector("#stage"), dialog = document.querySelector("#dialog");
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let say = speaker(language), device, member = null, show = () => {}, ear = () => {}, locked = false, last = 0;

// --- a little DOM ------------------------------------------------------------------------------------------------------

function el(tag, options = {}, ...children) {
  const { on, picture, ...more } = options;
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(more)) name in node ? (node[name] = value) : node.setAttribute(name, value);
  if (picture !== undefined) node.innerHTML = PICTURES[picture] ?? PICTURES.gift;
  if (on) node.addEventListener(tag === "form" ? "submit" : "click", (event) => (event.preventDefault(), on(event)));
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const button = (text, on, kind = "") => el("button", { type: "button", className: kind, on }, text);

function enter(screen, ...nodes) {
  ear();
  ear = () => {};
  if (dialog.open) dialog.close();
  stage.className = `${screen} rise`;
  stage.replaceChildren(...nodes.filter(Boolean));
  stage.scrollTop = 0;
  document.body.classList.toggle("night", ["attract middle", "pairing middle", "locked middle"].includes(screen));
  stage.focus({ preventScroll: true });
  last = performance.now();
}

// --- before anybody comes ------------------------------------------------------------------------------------------------

async function pairing() {
  for await (const { letters, number } of device.pair()) {
    show = () => enter("pairing middle",
      el("h1", {}, say("pairTitle")),
      el("p", { className: "soft" }, say("pairText")),
      el("p", { className: "letters", "aria-label": letters.split("").join(" ") }, letters),
      el("p", { className: "number" }, `${say("pairNumber")} ${number}`),
      el("p", { className: "soft" }, el("code", {}, `${say("pairHow")} ${letters} ${number}`)));
    show();
  }
}

function attract() {
  member = null;
  if (locked) return enter("locked middle", el("div", { className: "mark", picture: "tally" }), el("h1", {}, say("locked")));
  show = attract;
  const rewards = cheapest(device.settings.rewards).slice(0, 4);
  enter("attract middle",
    el("div", { className: "mark", picture: "tally" }),
    el("h1", {}, inLanguage(device.settings.title, language)),
    button(say("touch"), identify, "touch"),
    rewards.length ? el("ul", { className: "shelf" }, ...rewards.map((one) => el("li", { picture: one.picture },
      el("span", {}, inLanguage(one.title, language)), el("b", {}, `${number(one.points)} ${say("points")}`)))) : null);
  stage.onclick = ({ target }) => target.closest("button") || member || identify();
}

// --- who is it -------------------------------------------------------------------------------------------------------------

function tile(picture, title, text, on) {
  return el("button", { type: "button", className: "tile", picture, on }, el("b", {}, title), el("span", {}, text));
}

function identify() {
  stage.onclick = null;
  show = identify;
  enter("page identify", head(say("identify"), attract), el("div", { className: "tiles" },
    tile("scan", say("scan"), say("scanText"), scan),
    tile("type", say("type"), "TS1…", type),
    tile("keys", say("phone"), "••••", phone)));
  ear = listen((code) => known({ code }));
}

function head(title, back) {
  return el("div", { className: "head" }, el("h1", {}, title), button(`‹ ${say("back")}`, back, "plain end"));
}

async function scan() {
  show = scan;
  const video = el("video", { muted: true, playsInline: true, "aria-label": say("scan") });
  const text = el("p", { className: "soft", role: "status" }, say("scanText"));
  enter("page", head(say("scan"), identify), el("div", { className: "camera" }, video), text);
  ear = listen((code) => known({ code }));
  if (!(await watch(video, (code) => known({ code }), () => !video.isConnected))) text.textContent = say("noCamera");
}

function type() {
  show = type;
  const input = el("input", { autocomplete: "off", autocapitalize: "characters", spellcheck: false, maxLength: 80, required: true });
  enter("page", head(say("type"), identify), el("form", { on: () => known({ code: input.value.trim() }) },
    el("label", {}, say("type"), input), el("p", { className: "error", role: "alert" }), el("button", { className: "main" }, say("next"))));
  input.focus();
}

function phone() {
  show = phone;
  const name = el("input", { autocomplete: "off", inputMode: "tel", maxLength: 128, required: true });
  const pin = pinInput();
  enter("page", head(say("phone"), identify), el("form", { on: () => known({ phone: name.value.trim(), pin: pin.value }) },
    el("label", {}, say("phoneLabel"), name), el("label", {}, say("pin"), pin), pad(pin),
    el("p", { className: "error", role: "alert" }), el("button", { className: "main" }, say("next"))));
  name.focus();
}

const pinInput = () => el("input", { type: "password", inputMode: "numeric", autocomplete: "off", pattern: "[0-9]{4,8}", maxLength: 8, required: true });

function pad(input) {
  const press = (key) => {
    if (key === "⌫") input.value = input.value.slice(0, -1);
    else if (key === "C") input.value = "";
    else if (input.value.length < 8) input.value += key;
  };
  return el("div", { className: "pad", role: "group", ariaLabel: say("keypad") },
    ..."123456789C0⌫".split("").map((key) => el("button", { type: "button", ariaLabel: key === "C" ? say("clear") : key === "⌫" ? say("back") : key, on: () => press(key) }, key)));
}

async function known(who) {
  if (who.pin && !device.online) return failed(say("offlinePin")); // a PIN is not for keeping until the network is back
  const operation = crypto.randomUUID();
  const answer = await device.say("identify", who, { operation });
  if (answer === null) {
    member = { session: operation, offline: true, usable: null, pending: 0, tiers: {}, wishes: [],
      rewards: device.settings.rewards.map((one) => ({ ...one, left: null, confirm: false })) };
    return home();
  }
  if (answer.status !== "done") return failed(answer.code === "vr_kiosk_too_many_tries" ? say("tooMany") : say("wrong"));
  member = answer.said;
  if (member.language) choose(member.language.startsWith("zh") ? "zh" : "en");
  home();
}

function failed(text) {
  const place = stage.querySelector(".error");
  if (place) place.textContent = text;
  else tell(text, identify);
}

// --- the member's page -------------------------------------------------------------------------------------------------------

function home() {
  show = home;
  const { settings } = device;
  const amount = el("span", { className: "amount" }, member.usable === null ? "—" : "0");
  const rooms = Object.keys(settings.showrooms);
  enter("page home",
    el("div", { className: "head" }, el("h1", {}, say("hello")), button(say("finish"), finish, "plain end")),
    el("section", { className: "purse", ariaLabel: say("points") }, el("div", {}, amount, el("p", { className: "unit" }, say("points"))),
      ...Object.values(member.tiers).slice(0, 1).map((name) => el("span", { className: "tier" }, name)),
      member.pending ? el("p", { className: "unit" }, say("pending", { n: number(member.pending) })) : null, goal()),
    el("div", { className: "tiles" },
      member.rewards.length ? tile("gift", say("rewards"), say("rewardsText"), rewards) : null,
      settings.check_in ? tile("check", say("checkIn"), say("checkInText"), checkIn) : null,
      settings.draw ? tile("wheel", say("draw"), say("drawText"), draw) : null,
      rooms.length ? tile("room", say("showroom"), say("showroomText"), () => walkIn(rooms[0])) : null));
  if (member.usable !== null) count(amount, member.usable);
}

// The nearest reward that is still too dear, and how far it is.
function goal() {
  if (member.usable === null) return null;
  const next = cheapest(member.rewards).find((one) => one.points > member.usable && one.left !== 0);
  if (!next) return null;
  const bar = el("div", { className: "bar" }, el("i", {}));
  bar.firstChild.style.width = `${(100 * member.usable) / next.points}%`;
  return el("div", { className: "next" }, el("span", {}, say("goal", { n: number(next.points - member.usable), reward: inLanguage(next.title, language) })), bar);
}

const cheapest = (rewards) => [...rewards].sort((a, b) => a.points - b.points);
const number = (n) => new Intl.NumberFormat(language).format(n);

function count(node, to) {
  const format = new Intl.NumberFormat(language);
  const began = performance.now();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return (node.textContent = format.format(to));
  const step = (now) => {
    const part = Math.min(1, (now - began) / 700);
    node.textContent = format.format(Math.round(to * (1 - (1 - part) ** 3)));
    if (part < 1 && node.isConnected) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function rewards() {
  show = rewards;
  enter("page", head(say("rewards"), home), el("ul", { className: "rewards" }, ...cheapest(member.rewards).map((one) => {
    const missing = member.usable === null ? 0 : one.points - member.usable;
    const gone = one.left === 0;
    const act = button(gone ? say("gone") : missing > 0 ? say("missing", { n: number(missing) }) : say("take"), () => confirm(one), "main");
    act.disabled = gone || missing > 0;
    act.ariaLabel = `${act.textContent}: ${inLanguage(one.title, language)}`;
    const bar = el("div", { className: "bar" }, el("i", {}));
    bar.firstChild.style.width = `${member.usable === null ? 100 : Math.min(100, (100 * member.usable) / one.points)}%`;
    return el("li", { className: "reward", picture: one.picture }, el("h2", {}, inLanguage(one.title, language)),
      el("p", {}, el("span", { className: "cost" }, `${number(one.points)} ${say("points")}`), one.left ? el("span", { className: "soft" }, ` · ${say("left", { n: one.left })}`) : ""),
      bar, act);
  })));
}

function ask(...nodes) {
  dialog.replaceChildren(...nodes);
  if (!dialog.open) dialog.showModal();
}

function tell(text, then) {
  ask(el("h2", {}, text), el("div", { className: "row" }, button(say("close"), () => (dialog.close(), then?.()), "main")));
}

function confirm(reward) {
  const title = inLanguage(reward.title, language);
  const pin = reward.confirm && member.level !== "pin" && !member.offline ? pinInput() : null;
  const error = el("p", { className: "error", role: "alert" });
  ask(el("div", { className: "row", picture: reward.picture }), el("h2", {}, `${say("confirmTitle", { reward: title })}`),
    el("p", { className: "soft" }, member.usable === null ? say("confirmOffline", { n: number(reward.points) }) : say("confirmText", { n: number(reward.points), left: number(member.usable - reward.points) })),
    el("form", { on: () => redeem(reward, pin?.value, error) },
      pin ? el("label", {}, say("enterPin"), pin) : "", pin ? pad(pin) : "", error,
      el("button", { className: "main" }, say("take")), button(say("cancel"), () => dialog.close(), "plain")));
  dialog.querySelector(".row svg").setAttribute("width", "120");
}

async function redeem(reward, pin, error) {
  const data = { session: member.session, reward: reward.name };
  if (!device.online) {
    const grant = await device.spend(reward.points);
    if (!grant) return (error.textContent = say("offlineReward"));
    data.grant = grant;
  }
  if (pin) data.pin = pin;
  const answer = await device.say("redeem", data);
  if (answer === null && !data.grant) return (error.textContent = say("offlineReward"));
  if (answer && answer.status !== "done") {
    const why = { insufficient_balance: "insufficient", vr_kiosk_confirmation_needed: "confirmation", vr_kiosk_code_refused: "wrong", vr_kiosk_too_many_tries: "tooMany",
      vr_kiosk_session_ended: "ended", out_of_stock: "gone" }[answer.code] ?? "notOffered";
    return (error.textContent = say(why));
  }
  if (answer) {
    member.usable = answer.said.usable;
    if (pin) member.level = "pin"; // the house asks once a session
    if (reward.left) reward.left -= 1;
  }
  receipt(reward, answer?.said);
}

function receipt(reward, said) {
  show = () => receipt(reward, said);
  const title = inLanguage(reward.title, language);
  const line = (name, value, kind = "") => el("div", { className: kind }, el("span", {}, name), el("span", {}, String(value)));
  enter("page middle",
    el("div", { className: "good", picture: "check" }),
    el("h1", {}, say("thanks")),
    el("p", { className: "soft" }, said ? say("thanksText", { reward: title }) : say("pendingText")),
    el("section", { className: "slip", ariaLabel: say("receipt") }, el("b", {}, inLanguage(device.settings.title, language)),
      line(new Date().toLocaleString(language), ""), line(title, `−${number(reward.points)}`),
      said ? line(say("remaining"), number(said.usable), "total") : null, said ? line(say("entry"), said.entry) : null),
    el("div", { className: "row" }, button(say("print"), () => print(said?.entry)), button(say("next"), home, "main")));
}

// By the receipt printer that stands here; by the browser where there is none, or it does not answer, and that is said.
async function print(entry) {
  const session = member?.session, shown = show, gone = () => member?.session !== session || show !== shown;
  const here = (why) => gone() || (tell(say(why)), window.print());
  if (!entry || !device.online) return here("printHere");
  const asked = await device.say("print", { session, entry, language });
  if (gone()) return;
  if (asked?.status !== "done") return here(asked?.code === "vr_kiosk_no_printer" ? "noPrinter" : "printHere");
  const { printer, command, name } = asked.said;
  tell(say("printing", { name }));
  const until = performance.now() + 15000;
  for (let state = "waiting"; state === "waiting"; ) {
    await new Promise((done) => setTimeout(done, 1500));
    if (gone()) return;
    const stop = performance.now() > until;
    state = (await device.say("print", { session, printer, command, ...(stop ? { stop } : {}) }))?.said?.state ?? (stop ? "" : state);
    if (state === "done") return gone() || tell(say("printed", { name }));
  }
  here("printerSilent");
}

async function event(type, facts) {
  return device.say("event", { session: member.session, type, facts });
}

async function checkIn() {
  const answer = await event(device.settings.check_in, {});
  if (answer === null) return tell(say("pendingText"));
  if (answer.status === "done") {
    const gained = answer.said.gained[device.settings.unit] ?? 0;
    member.usable = answer.said.usable;
    return tell(`${say("checkedIn")} ${gained ? say("gained", { n: gained }) : ""}`, home);
  }
  tell(say(answer.code === "gamification_already_checked_in" ? "already" : "notOffered"));
}

async function draw() {
  const answer = await event("gamification.drawn", { draw: device.settings.draw, salt: crypto.randomUUID() });
  if (answer === null) return tell(say("offlineReward"));
  if (answer.status !== "done") return tell(say(answer.code === "insufficient_balance" ? "insufficient" : "notOffered"));
  member.usable = answer.said.usable;
  tell(say("drawn", { prize: answer.said.gives.map((one) => one.prize ?? Object.keys(one)[0]).join(", ") }), home);
}

function walkIn(name) {
  const { session, level, usable, wishes, rewards, found } = member;
  const visit = { from: "kiosk", session, level, usable, wishes, found, confirm: rewards.filter((one) => one.confirm).map((one) => one.name) };
  sessionStorage.setItem("visit", JSON.stringify(visit)); // this tab only, and gone with the session
  location.replace(`../room/?name=${encodeURIComponent(name)}&language=${language}`);
}

function finish() {
  const session = member?.session;
  member = null;
  sessionStorage.clear();
  if (session) device.say("end", { session });
  attract();
}

// --- nobody is left logged in ----------------------------------------------------------------------------------------------------

setInterval(() => {
  if (!member && (show === attract || show === refused)) return;
  if (!device?.paired) return;
  const left = device.settings.idle - Math.floor((performance.now() - last) / 1000);
  if (left <= 0) return member ? finish() : attract();
  if (member && left <= 10) {
    if (!dialog.open || dialog.dataset.still) {
      dialog.dataset.still = "1";
      const text = say("stillText", { n: left });
      if (dialog.open) dialog.querySelector("p").textContent = text;
      else ask(el("h2", {}, say("still")), el("p", {}, text), button(say("stay"), () => dialog.close(), "main"));
    }
  }
}, 500);
dialog.addEventListener("close", () => delete dialog.dataset.still);
for (const touched of ["pointerdown", "keydown"]) addEventListener(touched, () => (last = performance.now()), { capture: true, passive: true });

// --- the frame around it -----------------------------------------------------------------------------------------------------------

function choose(wanted) {
  language = wanted;
  say = speaker(language);
  document.documentElement.lang = language;
  document.querySelector("#language").textContent = say("language");
}

async function network() {
  const waiting = await device.queued();
  document.querySelector("#network").textContent = device.online ? "" : `${say("offline")} ${waiting ? say("queued", { n: waiting }) : ""}`;
}

function obey({ detail: { id, command, facts } }) {
  if (command === "restart") {
    device.say("done", { command: id, done: true }).then(() => location.reload());
    return;
  }
  if (command === "lock" || command === "unlock") {
    locked = command === "lock";
    locked ? localStorage.setItem("locked", "1") : localStorage.removeItem("locked"); // a restart opens nothing
  }
  if (command === "show") ask(el("h2", {}, String(facts.text ?? "").slice(0, 300)), button(say("close"), () => dialog.close(), "main"));
  if (command === "print") window.print();
  if (command !== "show") member ? finish() : attract();
  device.say("done", { command: id, done: true });
}

function refused() {
  show = refused;
  member = null;
  enter("locked middle", el("div", { className: "mark", picture: "tally" }), el("h1", {}, say("refused")), el("p", { className: "soft" }, say("refusedText")),
    button(say("again"), () => device.forget(), "plain"));
}

async function begin() {
  choose(language);
  sessionStorage.clear();
  locked = localStorage.getItem("locked") === "1";
  document.querySelector("#language").addEventListener("click", () => (choose(language === "en" ? "zh" : "en"), show(), device && network()));
  if (location.hash.length > 1) localStorage.setItem("pass", location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
  device = await Device.open(localStorage.getItem("pass") ?? "", VERSION);
  if (!device.paired) await pairing();
  device.addEventListener("network", network);
  device.addEventListener("command", obey);
  device.addEventListener("refused", refused);
  attract();
  setInterval(() => device.beat(), 10000);
  device.stayInTouch();
}

begin();
