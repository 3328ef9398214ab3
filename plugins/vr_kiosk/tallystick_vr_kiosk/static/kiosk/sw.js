// The page opens without network: its files are kept, and asked for anew whenever there is one.
const NAME = "kiosk-3";
const FILES = ["./", "index.html", "kiosk.css", "app.js", "device.js", "words.js", "scan.js", "pictures.js", "icon.svg", "kiosk.webmanifest", "jsqr-1.4.0.js"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (names) => Promise.all(names.filter((name) => name !== NAME).map((name) => caches.delete(name)));
  event.waitUntil(caches.keys().then(old).then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || !event.request.url.startsWith(self.registration.scope)) return;
  const kept = () => caches.match(event.request, { ignoreSearch: true });
  event.respondWith(
    fetch(event.request).then((answer) => {
      if (answer.ok) {
        const copy = answer.clone();
        caches.open(NAME).then((cache) => cache.put(event.request, copy));
      }
      return answer;
    }).catch(() => kept().then((found) => found ?? Response.error())),
  );
});
