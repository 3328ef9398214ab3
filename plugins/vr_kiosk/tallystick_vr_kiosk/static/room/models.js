// Simple models of our own, made of A-Frame's primitives; lengths in metres.
const shape = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const cylinder = (r, h, at, color, more = {}) => shape("a-cylinder", { radius: r, height: h, position: at, color, roughness: 0.65, shadow: "cast: true", ...more });
const box = (w, h, d, at, color, more = {}) => shape("a-box", { width: w, height: h, depth: d, position: at, color, roughness: 0.75, shadow: "cast: true", ...more });
const ball = (r, at, color, more = {}) => shape("a-sphere", { radius: r, position: at, color, roughness: 0.55, shadow: "cast: true", ...more });
const ring = (r, t, at, color, more = {}) => shape("a-torus", { radius: r, "radius-tubular": t, position: at, color, ...more });
const cone = (r1, r2, h, at, color, more = {}) => shape("a-cone", { "radius-bottom": r1, "radius-top": r2, height: h, position: at, color, roughness: 0.7, shadow: "cast: true", ...more });
const WOOD = "#8a5a36", DARK = "#27332f", BRASS = "#d9a441";

const MODELS = {
  armchair: (c) => [box(0.8, 0.22, 0.75, "0 0.35 0", c), box(0.8, 0.6, 0.18, "0 0.7 -0.32", c), box(0.16, 0.36, 0.75, "-0.42 0.52 0", c), box(0.16, 0.36, 0.75, "0.42 0.52 0", c), ...[-0.32, 0.32].flatMap((x) => [-0.28, 0.28].map((z) => cylinder(0.035, 0.25, `${x} 0.12 ${z}`, WOOD)))],
  bowl: (c) => [cone(0.08, 0.2, 0.14, "0 0.08 0", c), cylinder(0.185, 0.01, "0 0.15 0", "#3a4a44"), ball(0.06, "-0.06 0.17 0.02", "#c4552d"), ball(0.06, "0.06 0.17 -0.03", "#e0a02f"), ball(0.055, "0.02 0.2 0.06", "#7a9a3a")],
  chair: (c) => [box(0.46, 0.05, 0.46, "0 0.46 0", c), box(0.46, 0.42, 0.05, "0 0.74 -0.21", c), ...[-0.19, 0.19].flatMap((x) => [-0.19, 0.19].map((z) => cylinder(0.025, 0.45, `${x} 0.22 ${z}`, WOOD)))],
  clock: (c) => [cylinder(0.24, 0.06, "0 0.3 0", c, { rotation: "90 0 0" }), cylinder(0.2, 0.065, "0 0.3 0.002", "#fbf7ee", { rotation: "90 0 0" }), box(0.015, 0.15, 0.01, "0 0.36 0.04", DARK), box(0.11, 0.015, 0.01, "0.05 0.3 0.04", DARK), ball(0.02, "0 0.3 0.045", BRASS), box(0.3, 0.06, 0.14, "0 0.03 0", WOOD)],
  lamp: (c) => [cylinder(0.17, 0.03, "0 0.015 0", DARK), cylinder(0.02, 1.35, "0 0.7 0", BRASS), cone(0.26, 0.16, 0.34, "0 1.45 0", c, { side: "double", material: `emissive: #ffdf9e; emissiveIntensity: 0.55; color: ${c}` }), shape("a-light", { type: "point", intensity: 0.5, distance: 4, color: "#ffdfa8", position: "0 1.4 0" })],
  mug: (c) => [cylinder(0.09, 0.2, "0 0.1 0", c), cylinder(0.075, 0.005, "0 0.2 0", "#3b2414"), ring(0.055, 0.014, "0.11 0.11 0", c)],
  plant: (c) => [cone(0.13, 0.18, 0.3, "0 0.15 0", c), cylinder(0.165, 0.02, "0 0.3 0", "#4b3524"), ...[[0, 0.62, 0, 0.2], [0.16, 0.5, 0.06, 0.14], [-0.15, 0.53, 0.05, 0.15], [0.03, 0.5, -0.15, 0.15], [-0.06, 0.77, 0.02, 0.13]].map(([x, y, z, r]) => ball(r, `${x} ${y} ${z}`, r > 0.16 ? "#2f7d4f" : "#48995f"))],
  radio: (c) => [box(0.5, 0.3, 0.18, "0 0.17 0", c), cylinder(0.1, 0.02, "-0.11 0.17 0.095", DARK, { rotation: "90 0 0" }), cylinder(0.03, 0.03, "0.11 0.22 0.1", BRASS, { rotation: "90 0 0" }), cylinder(0.03, 0.03, "0.19 0.22 0.1", BRASS, { rotation: "90 0 0" }), box(0.2, 0.05, 0.02, "0.14 0.12 0.09", "#f2e6c9"), cylinder(0.006, 0.4, "0.2 0.5 -0.05", "#9aa39f", { rotation: "0 0 -14" })],
  rug: (c) => [cylinder(1.1, 0.012, "0 0.006 0", c), cylinder(0.85, 0.014, "0 0.007 0", "#f2e6c9"), cylinder(0.6, 0.016, "0 0.008 0", c)],
  shelf: (c) => [box(0.05, 1.7, 0.32, "-0.5 0.85 0", c), box(0.05, 1.7, 0.32, "0.5 0.85 0", c), ...[0.05, 0.6, 1.15, 1.68].map((y) => box(1.05, 0.04, 0.32, `0 ${y} 0`, c)), ...["#b4492c", "#1d6b58", "#d9a441", "#3c5a8a", "#7a3b52"].map((book, n) => box(0.06, 0.28 + (n % 3) * 0.04, 0.2, `${-0.38 + n * 0.075} ${0.77 + (n % 3) * 0.02} 0`, book)), ball(0.1, "0.28 1.28 0", "#c9ab84"), cone(0.06, 0.1, 0.2, "0.2 0.72 0", "#1d6b58")],
  stool: (c) => [cylinder(0.2, 0.05, "0 0.5 0", c), ...[0, 120, 240].map((turn) => cylinder(0.022, 0.52, `${0.13 * Math.cos((turn * Math.PI) / 180)} 0.25 ${0.13 * Math.sin((turn * Math.PI) / 180)}`, WOOD))],
  table: (c) => [cylinder(0.6, 0.045, "0 0.73 0", c), cylinder(0.05, 0.7, "0 0.36 0", DARK), cylinder(0.3, 0.03, "0 0.015 0", DARK)],
  teapot: (c) => [ball(0.17, "0 0.16 0", c, { scale: "1 0.85 1" }), cylinder(0.1, 0.02, "0 0.015 0", c), ball(0.035, "0 0.34 0", BRASS), cylinder(0.09, 0.03, "0 0.3 0", c), cone(0.045, 0.02, 0.22, "0.2 0.21 0", c, { rotation: "0 0 -52" }), ring(0.085, 0.016, "-0.2 0.17 0", c)],
  vase: (c) => [cone(0.09, 0.16, 0.26, "0 0.13 0", c), cone(0.16, 0.07, 0.18, "0 0.35 0", c), cylinder(0.085, 0.05, "0 0.46 0", c), ...[[-0.05, "#d9785b"], [0.04, "#f4c560"], [0.01, "#b4492c"]].flatMap(([x, flower], n) => [cylinder(0.008, 0.36, `${x} 0.62 ${x / 2}`, "#3f7a4d", { rotation: `0 0 ${-x * 160}` }), ball(0.05, `${x * 2} ${0.78 + n * 0.03} ${x / 2}`, flower)])],
};
const COLOURS = { armchair: "#b4492c", bowl: "#1d6b58", chair: "#c9ab84", clock: "#1d6b58", lamp: "#f6e3bd", mug: "#d9785b", plant: "#c46a48", radio: "#1d6b58", rug: "#b4492c", shelf: "#8a5a36", stool: "#d9a441", table: "#a8794e", teapot: "#2b6f8a", vase: "#e9dcc3" };

export const model = (name, colour) => MODELS[name](colour || COLOURS[name]);
export const known = (name) => name in MODELS;
export { shape };
