// Codes from the camera, or from a scanner that types them.

export async function watch(video, found, stopped) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch {
    return false;
  }
  video.srcObject = stream;
  await video.play();
  const read = await reader();
  const look = async () => {
    if (stopped()) return stream.getTracks().forEach((track) => track.stop());
    const text = await read(video);
    if (text) {
      stream.getTracks().forEach((track) => track.stop());
      return found(text);
    }
    setTimeout(look, 120);
  };
  look();
  return true;
}

async function reader() {
  if ("BarcodeDetector" in window && (await BarcodeDetector.getSupportedFormats()).includes("qr_code")) {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    return async (video) => (await detector.detect(video))[0]?.rawValue;
  }
  await new Promise((done, failed) => {
    const script = Object.assign(document.createElement("script"), { src: "jsqr-1.4.0.js", onload: done, onerror: failed });
    document.head.append(script);
  });
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  return (video) => {
    const scale = Math.min(1, 640 / (video.videoWidth || 640));
    [canvas.width, canvas.height] = [video.videoWidth * scale, video.videoHeight * scale];
    if (!canvas.width) return undefined;
    pen.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data, width, height } = pen.getImageData(0, 0, canvas.width, canvas.height);
    return window.jsQR(data, width, height)?.data;
  };
}

// A scanner types fast and ends with Enter; whatever comes slower is a person.
export function listen(found) {
  let text = "", last = 0;
  const heard = (event) => {
    if (event.target instanceof HTMLInputElement) return;
    const now = performance.now();
    if (now - last > 80) text = "";
    last = now;
    if (event.key === "Enter" && text.length > 12) {
      found(text);
      text = "";
    } else if (event.key.length === 1) text += event.key;
  };
  document.addEventListener("keydown", heard);
  return () => document.removeEventListener("keydown", heard);
}
